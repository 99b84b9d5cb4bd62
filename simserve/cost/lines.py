"""Piecewise-linear functions at many places at once: the knots of decode attention."""

from __future__ import annotations

import itertools
from bisect import bisect_right

import numpy as np

from simserve.contracts.cost import F64, I64

Segments = tuple[list[int], list[float], list[float]]
"""Knots, and the intercept and slope from each on."""

_MANY = 4
"""Knots from which one pass over all places is faster than one for each line."""

_CLEARLY = 1.0 + 1e-6
"""How much larger of two numbers is larger in whatever way they are rounded."""


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


def slower_on_lines(
    together: Segments, alone: Segments, sequences: int, context_tokens: int, longest_tokens: int, steps: int, base: float
) -> list[float]:
    """Of steps in which each of so many sequences gets a token longer: `base` and the larger of one such function at the tokens of all
    and of another at those of the longest. Few steps; by the operations that a single one does."""
    knots, intercept, slope = together
    ones, one_intercept, one_slope = alone
    out: list[float] = []
    while steps:  # stretches in which both stay on their line segments
        i, j = bisect_right(knots, context_tokens), bisect_right(ones, longest_tokens)
        run = steps
        if i < len(knots) and (left := (knots[i] - context_tokens - 1) // sequences + 1) < run:  # min() would cost more than a step
            run = left
        if j < len(ones) and (left := ones[j] - longest_tokens) < run:
            run = left
        a, b, one_a, one_b = intercept[i - 1], slope[i - 1], one_intercept[j - 1], one_slope[j - 1]
        after, most = context_tokens + sequences * run, one_a + one_b * (longest_tokens + run)
        contexts = range(context_tokens, after, sequences)
        # All of a single sequence; and lines that rise and are apart stay apart, by so much that rounding changes nothing.
        if intercept is one_intercept or (a + b * context_tokens > most * _CLEARLY and one_b >= 0.0 <= b):
            out += [base + (a + b * context) for context in contexts]
        else:
            out += [
                base + (batch if (batch := a + b * context) > (single := one_a + one_b * longest) else single)
                for longest, context in enumerate(contexts, longest_tokens)
            ]
        steps -= run
        context_tokens = after
        longest_tokens += run
    return out


def on_segments(at: I64, knots: list[int], intercept: list[float], slope: list[float]) -> F64:
    """The same at integers in any order."""
    segment = np.searchsorted(knots, at, side="right") - 1
    out: F64 = np.asarray(intercept)[segment] + np.asarray(slope)[segment] * at
    return out


def rising(at: I64) -> bool:
    """Whether no number is below the one before it."""
    return bool((at[1:] >= at[:-1]).all())
