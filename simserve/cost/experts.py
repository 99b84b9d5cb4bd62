"""How many experts a step reads: the expected fraction of a layer's experts that at least one of its tokens chooses.

Experts are not equally popular. Each token is taken to draw its k distinct experts at random in proportion to popularities that follow
Zipf's law, rank ** -1.3, anew in every layer and independently of the other tokens (Gumbel top-k, that is drawing without
replacement). The exponent is fitted on what was published for Qwen3-30B-A3B, 128 experts of which a token chooses 8 (arXiv 2510.08055):
below 50 % of the experts at 16 tokens, about 55 % at 32, below 70 % at 64, 86.3 % at 128. For other models it is an assumption; how long
steps take is another matter (`CostOptions.expert_popularity`). Models whose router has a bias that keeps experts equally busy choose
evenly: exponent 0.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

ZIPF_EXPONENT = 1.3

_INSTANTS = 120
"""Nodes of the quadrature over the logarithm of time: the probabilities are exact to 1e-6."""

_STEPWISE = 64
"""Distinct token counts for which the fractions are worked out at a time: bounded memory for long runs."""


def coverage(tokens: F64, experts: int, chosen: int, exponent: float = ZIPF_EXPONENT) -> F64:
    """Expected fraction (0 to 1) of the `experts` of a layer that `tokens` tokens choose, each token `chosen` distinct ones."""
    if not exponent:
        even: F64 = 1.0 - (1.0 - min(chosen / experts, 1.0)) ** tokens
        return even
    wanted, place = np.unique(tokens, return_inverse=True)
    left_out = np.log1p(-np.minimum(_chosen_by_one(experts, chosen, exponent), 1.0 - 1e-15))
    fractions = [1.0 - np.exp(np.outer(wanted[i : i + _STEPWISE], left_out)).mean(axis=1) for i in range(0, len(wanted), _STEPWISE)]
    found: F64 = np.concatenate([*fractions, np.zeros(0)])[place]
    return found


def fullest(fraction: F64, experts: int, ranks: int) -> F64:
    """Expected fraction of its experts that the fullest of some ranks must read, where `fraction` of the `experts` of a layer are hit.

    Which experts lie on a rank has nothing to do with which are popular, so the experts hit on a rank are a binomial draw, and the fullest
    of n ranks lies above the mean by as many standard deviations as the largest of n normal values (Blom's approximation).
    """
    if ranks == 1:
        return fraction
    deviations = NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))
    above: F64 = np.sqrt(np.maximum(fraction * (1.0 - fraction), 0.0) * ranks / experts)
    return np.minimum(fraction + deviations * above, 1.0)


@lru_cache(maxsize=64)
def _chosen_by_one(experts: int, chosen: int, exponent: float) -> F64:
    """Probability that one token chooses each expert; they sum to `chosen`.

    Drawing without replacement in proportion to weights is a race: expert e arrives after an exponential time of rate w_e and the first
    k arrivals are chosen. So P(e) = integral of w_e exp(-w_e t) P(fewer than k of the others have arrived by t) dt. Arrivals are
    independent coins; those of the experts before e and of those after it are counted one coin at a time, from either end.
    """
    if chosen >= experts:
        return np.ones(experts)
    weight = np.arange(1.0, experts + 1.0) ** -exponent
    # From when hardly any token can have arrived to when all have.
    low, high = np.log(1e-9 / weight.sum()), np.log(60.0 / weight[-1])
    nodes, measure = np.polynomial.legendre.leggauss(_INSTANTS)
    instant = np.exp(low + (nodes + 1.0) / 2.0 * (high - low))
    measure = measure * (high - low) / 2.0 * instant
    arrived = -np.expm1(-np.outer(instant, weight))
    before, after = (_arrivals(coins, chosen) for coins in (arrived.T, arrived.T[::-1]))
    fewer = np.cumsum(after[::-1], axis=2)[:, :, ::-1]  # [e, t, n]: at most chosen - 1 - n of those after e
    others = (before * fewer).sum(axis=2).T
    density = weight * np.exp(-np.outer(instant, weight))
    probability: F64 = (measure[:, None] * density * others).sum(axis=0)
    return probability


def _arrivals(coins: F64, most: int) -> F64:
    """[e, t, n]: probability that n (0 to most - 1) of the coins before number e have come up, given coins[e, t]."""
    counts = np.zeros((*coins.shape, most))
    counts[0, :, 0] = 1.0
    for e, coin in enumerate(coins[:-1, :, None]):
        counts[e + 1] = counts[e] * (1.0 - coin)
        counts[e + 1, :, 1:] += counts[e, :, :-1] * coin
    return counts
