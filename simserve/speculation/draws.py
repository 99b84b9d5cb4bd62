"""Random numbers by counter: what belongs to (seed, row, place) is the same whenever and however often it is asked for.

Common random numbers: the draft of a token is judged by the token's own number, so two runs that schedule requests differently, or draft
other numbers of tokens, judge the same tokens alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.contracts.cost import I64

ONE = 1 << 53
"""Numbers are whole, uniform on 0 to ONE - 1: as many as a double tells apart, so that a probability of 1 is above all of them."""

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1


def threshold(probability: float) -> int:
    """The number below which a fraction `probability` of the draws lies."""
    return round(probability * ONE)


def key(seed: int, row: int, stream: int = 0) -> int:
    """What stands for a request of a run (64 bits). `stream` tells several draws for the same token apart."""
    return _mixed(_mixed(_mixed(seed & _MASK) + _GOLDEN * (stream + 1)) + _GOLDEN * (int(row) + 1))


def draw(of: int, place: int) -> int:
    """The draw at one place: the same as that element of `draws`."""
    return _mixed(of + _GOLDEN * (int(place) + 1)) >> 11


def draws(of: int, first: int, count: int) -> I64:
    """The draws at the places first .. first + count - 1: array of that length."""
    steps = np.arange(first + 1, first + 1 + count, dtype=np.uint64)
    steps *= np.uint64(_GOLDEN)
    steps += np.uint64(of)
    return _whole(_mix(steps))


def draws_of_rows(seed: int, first_row: int, counts: I64, stream: int = 0) -> I64:
    """The draws of the rows first_row, first_row + 1, .., of each so many, from place 0 on, one row after the other."""
    begun = np.uint64(_mixed(_mixed(seed & _MASK) + _GOLDEN * (stream + 1)))
    keys = np.arange(first_row + 1, first_row + 1 + len(counts), dtype=np.uint64)
    keys *= np.uint64(_GOLDEN)
    keys += begun
    keys = np.repeat(_mix(keys), counts)
    places = np.arange(1, 1 + len(keys), dtype=np.uint64)
    places -= np.repeat(np.cumsum(counts) - counts, counts).view(np.uint64)
    places *= np.uint64(_GOLDEN)
    keys += places
    return _whole(_mix(keys))


def _whole(numbers: NDArray[np.uint64]) -> I64:
    numbers >>= np.uint64(11)
    found: I64 = numbers.view(np.int64)
    return found


def _mix(states: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`_mixed` of an array, in place; 64-bit numbers wrap around."""
    shifted = states >> np.uint64(30)
    states ^= shifted
    states *= np.uint64(_FIRST)
    states ^= np.right_shift(states, np.uint64(27), out=shifted)
    states *= np.uint64(_SECOND)
    states ^= np.right_shift(states, np.uint64(31), out=shifted)
    return states


def _mixed(state: int) -> int:
    """The output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)."""
    z = state & _MASK
    z = ((z ^ (z >> 30)) * _FIRST) & _MASK
    z = ((z ^ (z >> 27)) * _SECOND) & _MASK
    return z ^ (z >> 31)
