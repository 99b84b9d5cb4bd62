"""The probability that a drafted token is accepted, by its place in the draft.

Everything here is a tuple of conditional probabilities: element j is the probability that the (j+1)-th drafted token is accepted when those
before it were. With independent tokens the number of accepted ones out of k is j with probability c_1 .. c_j (1 - c_j+1); a step emits one
token more than were accepted (Leviathan et al., arXiv 2211.17192, section 3.1).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simserve.contracts.cost import F64

Conditional = tuple[float, ...]

_SMALL = 1e-9
"""Rounding of printed rates: a later one may exceed an earlier one by so much."""


class RatesOfRows(Protocol):
    """Who has which probabilities."""

    def of(self, row: int) -> Conditional:
        """Of the request in a row of the request table, one for each of the drafted tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Same:
    """Every request has the same."""

    conditional: Conditional

    def of(self, row: int) -> Conditional:
        """These, whatever the row."""
        return self.conditional


@dataclass(frozen=True, slots=True)
class ByRow:
    """Probabilities by a category of requests: `kinds[codes[row]]`. A row beyond the table, that is a request which came while the run went
    on, has the last."""

    codes: NDArray[np.int64]
    kinds: tuple[Conditional, ...]

    def of(self, row: int) -> Conditional:
        """Those of the row's category."""
        return self.kinds[self.codes[row] if row < len(self.codes) else -1]


@dataclass(frozen=True, slots=True)
class ByNumber:
    """A probability of its own for each request, the same at every place of the draft; NaN, and rows beyond the table, have `otherwise`."""

    rate: F64
    tokens: int
    otherwise: Conditional

    def of(self, row: int) -> Conditional:
        """That of the row, for each drafted token."""
        rate = float(self.rate[row]) if row < len(self.rate) else float("nan")
        return (rate,) * self.tokens if rate == rate else self.otherwise


def of_rate(rate: float, tokens: int) -> Conditional:
    """Each drafted token is accepted with the same probability. Raises ValueError outside [0, 1]."""
    if not 0 <= rate <= 1:
        raise ValueError(f"found {rate:g}, expected a probability, 0 to 1")
    return (float(rate),) * tokens


def of_rates(rates: Sequence[float], tokens: int) -> Conditional:
    """From rates by position as engines print them: the fraction of all drafts whose first j tokens were accepted, never increasing.

    vLLM prints them so ("Per-position acceptance rate", vllm/v1/spec_decode/metrics.py). Raises ValueError for fewer than `tokens`, for one
    outside [0, 1] and for rates that increase.
    """
    if len(rates) < tokens:
        raise ValueError(f"found rates of {len(rates)} positions, expected one for each of the {tokens} drafted tokens")
    bad = [rate for rate in rates if not 0 <= rate <= 1]
    if bad:
        raise ValueError(f"found {bad[0]:g}, expected fractions of the drafts, 0 to 1")
    for place, (one, after) in enumerate(itertools.pairwise(rates), 2):
        if after > one + _SMALL:
            raise ValueError(
                f"found {after:g} at position {place} after {one:g}: they are fractions of all drafts, as vLLM prints them,"
                " and never increase"
            )
    before = (1.0, *rates)
    return tuple(min(rate / of, 1.0) if of > 0 else 0.0 for of, rate in zip(before, rates[:tokens], strict=False))


def of_lengths(lengths: Mapping[int, float], tokens: int) -> Conditional:
    """From how often a step emitted 1, 2, .. tokens + 1 tokens (weights, need not sum to 1), the bonus token included.

    Raises ValueError for a length outside that range, a negative weight, or weights that are all 0.
    """
    for length, weight in lengths.items():
        if not 1 <= length <= tokens + 1:
            raise ValueError(f"found length {length}: a step of {tokens} drafted tokens emits 1 to {tokens + 1} (the bonus token included)")
        if not 0 <= weight < float("inf"):
            raise ValueError(f"found weight {weight:g} of length {length}, expected a number >= 0")
    at_least = [sum(weight for length, weight in lengths.items() if length > accepted) for accepted in range(tokens + 1)]
    if not at_least[0]:
        raise ValueError("all weights are 0; expected how often a step emits 1, 2, .. tokens")
    return tuple(after / one if one else 0.0 for one, after in itertools.pairwise(at_least))


def of_length(length: float, tokens: int) -> Conditional:
    """From a mean acceptance length: tokens that a step emits, the bonus token included (SGLang's `accept_length`, vLLM's "Mean acceptance
    length"). The probability p, the same at every position, for which 1 + p + .. + p^tokens = `length`. Raises ValueError outside
    1 to tokens + 1.
    """
    if not 1 <= length <= tokens + 1:
        raise ValueError(f"found {length:g}: a step of {tokens} drafted tokens emits 1 to {tokens + 1} (the bonus token included)")
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if expected_tokens((middle,) * tokens) < length:
            low = middle
        else:
            high = middle
    return (1.0 if length == tokens + 1 else high if length > 1 else 0.0,) * tokens


def expected_tokens(conditional: Conditional, tokens: int | None = None, hit: float = 1.0) -> float:
    """Tokens that a step emits on average: 1 + hit x (c_1 + c_1 c_2 + ..), of `tokens` drafted ones (default: as many as there are).

    hit  probability that there is a draft at all. With one probability p this is (1 - p^(k+1)) / (1 - p) (arXiv 2211.17192, equation 1).
    """
    places = conditional if tokens is None else extended(conditional, tokens)
    return 1.0 + hit * sum(itertools.accumulate(places, lambda a, b: a * b))


def extended(conditional: Conditional, tokens: int) -> Conditional:
    """The first so many; places beyond the last are accepted like the last."""
    more = tokens - len(conditional)
    return conditional[:tokens] if more <= 0 else conditional + (conditional[-1:] or (0.0,)) * more
