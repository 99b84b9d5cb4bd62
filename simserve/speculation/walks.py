"""The steps of many requests at once: where each begins.

A step that begins at token p emits 1 to k + 1 tokens, and the next begins after them: a walk over the output. A draft that is right at no
place of a row of drafts ends any step that gets to it, so a step begins behind it whatever came before. Walks between two such places are
short, and are followed together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.contracts.cost import I64

Bools = NDArray[np.bool_]


class Walks(NamedTuple):
    """Steps of several requests whose first token the prompt gave, one request after the other, each with one more entry for its end.

    before  tokens of the output before the step; at the end all of them
    places  of the steps among the tokens of all requests
    ends    entry of each request's end
    """

    before: I64
    places: I64
    ends: I64


def walks(emitted: NDArray[np.uint8], always: Bools, counts: I64) -> Walks:
    """Follows requests with outputs of `counts` tokens (each >= 1), from the second token on.

    emitted  of each token, what a step emits that begins there; never beyond the end of its request
    always   whether a step begins behind a token whatever came before (a draft of it is never right)
    """
    total, ends = len(emitted), np.cumsum(counts)
    begins = ends - counts
    after = np.arange(total)
    after += emitted
    begun = np.zeros(total + 1, dtype=np.bool_)
    begun[1:] = always
    begun[begins + 1] = True
    begun[begins] = False
    at = np.flatnonzero(begun[:total])
    begun[ends] = True
    while len(at):
        at = after[at]
        at = at[~begun[at]]
        begun[at] = True
    begun[0] = False
    places = np.flatnonzero(begun)
    last = np.searchsorted(places, ends)
    return Walks(places - np.repeat(begins, np.diff(last, prepend=-1)), places, last)


def within(emitted: NDArray[np.uint8], counts: I64, most: int) -> None:
    """Cuts off, in place, what steps emit beyond the end of their request, at most `most` tokens."""
    ends = np.cumsum(counts)
    left = np.arange(1, most + 1)
    places = ends[:, None] - left
    inside = left <= counts[:, None]
    places, left = places[inside], np.broadcast_to(left, inside.shape)[inside]
    emitted[places] = np.minimum(emitted[places], left)
