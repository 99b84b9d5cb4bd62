"""The steps of many requests at once: where each begins, and what it is.

A step that begins at token p emits 1 to k + 1 tokens, and the next begins after them: a walk over the output. A draft that is right at no
place of a row of drafts ends any step that gets to it, so a step begins behind it whatever came before. Walks between two such places are
short, and are followed together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simserve.contracts import Course
from simserve.contracts.cost import I64

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Block:
    """The steps of several requests from the second token of their outputs on (the first comes with the prompt), one request after the
    other, each with one more entry for its end.

    tokens, before, sums, width  as in `Course`
    ends                         entry of each request's end
    """

    tokens: I64
    before: I64
    sums: I64
    width: int
    ends: list[int]

    def course(self, number: int, generated: int) -> Course | None:
        """Of one of them, when so many tokens have been generated; None where none of its steps begins there."""
        first, end = self.ends[number - 1] + 1 if number else 0, self.ends[number]
        if generated != 1:
            first += int(np.searchsorted(self.before[first : end + 1], generated))
        if first >= end or (generated != 1 and self.before[first] != generated):
            return None
        sums = self.sums[:, first:end]
        return Course(self.tokens[first:end], sums[0], self.before[first : end + 1], sums, self.width)


def block_of(emitted: NDArray[np.uint8], always: Bools, has_draft: Bools | None, counts: I64, drafts: int, nodes: int) -> Block:
    """The steps of requests with outputs of `counts` tokens (each >= 1). Cuts off, in `emitted`, what lies beyond an output.

    emitted    of each token, what a step emits that begins there
    always     whether a step begins behind a token whatever came before (a draft of it is never right)
    has_draft  whether a step that begins there has a draft; None = all have
    drafts     tokens drafted in a row; nodes: tokens computed beside the ordinary one then
    """
    _cut(emitted, counts, drafts)
    places, last = _walk(emitted, always, counts)
    before = places - np.repeat(np.cumsum(counts) - counts, np.diff(last, prepend=-1))
    tokens, sums = np.empty(len(before), dtype=np.int64), np.empty((4, len(before)), dtype=np.int64)
    np.subtract(before[1:], before[:-1], out=tokens[:-1])
    tokens[-1] = 0
    drafted, accepted, attended, pairs = sums
    drafted[:] = nodes
    if has_draft is not None:
        drafted[:-1] *= has_draft[places[:-1]]
    np.subtract(tokens, 1, out=accepted)
    np.add(before, drafted, out=attended)
    attended += 1
    np.add(before, attended, out=pairs)  # the first query attends one token more than `before`, the last `attended`
    pairs += 1
    pairs *= drafted + 1
    pairs >>= 1
    return Block(tokens, before, sums, nodes + 1 if has_draft is None else 0, last.tolist())


def _walk(emitted: NDArray[np.uint8], always: Bools, counts: I64) -> tuple[I64, I64]:
    """Places of the steps, and of each request's end, among the tokens; and which of them are ends."""
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
    places = np.flatnonzero(begun)
    return places, np.searchsorted(places, ends)


def _cut(emitted: NDArray[np.uint8], counts: I64, drafts: int) -> None:
    """Cuts off what steps emit beyond the end of their request: one that begins j <= `drafts` tokens before it emits j."""
    left = np.arange(1, drafts + 1)
    places, inside = np.cumsum(counts)[:, None] - left, left <= counts[:, None]
    emitted[places[inside]] = np.minimum(emitted[places[inside]], np.broadcast_to(left, inside.shape)[inside])
