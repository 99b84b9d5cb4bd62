"""Piecewise-linear functions at many places at once: the knots of decode attention."""

from __future__ import annotations

import itertools
from bisect import bisect_right

import numpy as np

from simserve.contracts.cost import F64, I64

_MANY = 4
"""Knots from which one pass over all places is faster than one for each line."""


def on_lines(at: I64, knots: list[int], intercept: list[float], slope: list[float]) -> F64:
    """The piecewise-linear function at rising integers, by the operations that a single step does."""
    first, last = bisect_right(knots, int(at[0])) - 1, bisect_right(knots, int(at[-1])) - 1
    if first == last:
        line: F64 = (intercept[first] + slope[first] * at).astype(np.float64, copy=False)
        return line
    edges = [0, *np.searchsorted(at, knots[first + 1 : last + 1]).tolist(), len(at)]
    if last - first < _MANY:
        out = np.empty(len(at))
        for k, (begin, end) in enumerate(itertools.pairwise(edges), start=first):
            out[begin:end] = intercept[k] + slope[k] * at[begin:end]
        return out
    counts = [end - begin for begin, end in itertools.pairwise(edges)]
    out = np.repeat(slope[first : last + 1], counts)
    out *= at
    out += np.repeat(intercept[first : last + 1], counts)
    return out


def on_segments(at: I64, knots: list[int], intercept: list[float], slope: list[float]) -> F64:
    """The same at integers in any order."""
    segment = np.searchsorted(knots, at, side="right") - 1
    out: F64 = np.asarray(intercept)[segment] + np.asarray(slope)[segment] * at
    return out


def rising(at: I64) -> bool:
    """Whether no number is below the one before it."""
    return bool((at[1:] >= at[:-1]).all())
