"""Percentiles, with one definition for every metric: the smallest observed value x such that a fraction of at least q is <= x.

This is numpy's `method="inverted_cdf"` (Hyndman and Fan 1996, type 1). A percentile is therefore always a value that some request or
token really had, and it has the obvious meaning for weighted observations: an observation of weight w counts w times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from simserve.engine.records import F64, I64

QUANTILES: tuple[tuple[str, float], ...] = (("p50", 0.50), ("p90", 0.90), ("p95", 0.95), ("p99", 0.99))

# Non-negative doubles sort like their bit patterns. The exponent and the first 8 bits of the fraction give buckets 0.4 % wide.
_DROPPED_BITS = 44
_BUCKETS = 1 << 19


@dataclass(frozen=True, slots=True)
class Stats:
    """Mean, percentiles and maximum of `count` observations; all NaN where there are none."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


NO_STATS = Stats(0, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan)

Chunks = Callable[[], Iterable[tuple[F64, I64]]]
"""Weighted observations in pieces of bounded size; called once per pass over the data. Values are finite and >= 0, weights >= 0."""


_FEW = 1 << 15
"""Observations that are sorted in less time than the buckets take, which are half a million."""


def describe(values: F64) -> Stats:
    """Stats of the values that are not NaN."""
    known = values[~np.isnan(values)]
    count = len(known)
    if count == 0:
        return NO_STATS
    known.sort()
    p50, p90, p95, p99 = (float(known[rank_of(q, count) - 1]) for _, q in QUANTILES)
    return Stats(count, float(known.sum()) / count, p50, p90, p95, p99, float(known[-1]))


def describe_weighted(chunks: Chunks) -> Stats:
    """Stats of weighted observations, exact, in two passes and memory that does not grow with their number.

    The first pass counts weights in narrow buckets, the second sorts only the observations of the buckets in which a percentile falls.
    A few observations are sorted at once, with the same answer.
    """
    if (few := _few(chunks)) is not None:
        return few
    weight_in = np.zeros(_BUCKETS)
    weighted_sum = 0.0
    largest = -math.inf
    for values, weights in chunks():
        weight_in += np.bincount(_bucket(values), weights=weights, minlength=_BUCKETS)
        weighted_sum += float((values * weights).sum())
        seen = values[weights > 0]
        if len(seen):
            largest = max(largest, float(seen.max()))
    up_to = np.cumsum(weight_in)
    total = int(up_to[-1])
    if total == 0:
        return NO_STATS
    ranks = [rank_of(q, total) for _, q in QUANTILES]
    buckets = [int(np.searchsorted(up_to, rank)) for rank in ranks]
    inside = _collect(chunks, sorted(set(buckets)))
    at = []
    for rank, bucket in zip(ranks, buckets, strict=True):
        values, weights = inside[bucket]
        order = np.argsort(values, kind="stable")
        below = up_to[bucket - 1] if bucket else 0.0
        position = np.searchsorted(below + np.cumsum(weights[order]), rank)
        at.append(float(values[order[position]]))
    p50, p90, p95, p99 = at
    return Stats(total, weighted_sum / total, p50, p90, p95, p99, largest)


def _few(chunks: Chunks) -> Stats | None:
    """`describe_weighted` of at most `_FEW` observations, None of more."""
    pieces, count = [], 0
    for values, weights in chunks():
        count += len(values)
        if count > _FEW:
            return None
        pieces.append((values, weights))
    if not count:
        return NO_STATS
    values, weights = np.concatenate([v for v, _ in pieces]), np.concatenate([w for _, w in pieces])
    order = np.argsort(values, kind="stable")
    up_to = np.cumsum(weights[order])
    total = int(up_to[-1])
    if total == 0:
        return NO_STATS
    sums = [float((v * w).sum()) for v, w in pieces]  # piece by piece: the same floating-point number as that of many
    places = np.searchsorted(up_to, [rank_of(q, total) for _, q in QUANTILES])
    p50, p90, p95, p99 = values[order[places]].tolist()
    return Stats(total, sum(sums, 0.0) / total, p50, p90, p95, p99, float(values[weights > 0].max()))


def weighted_cdf(chunks: Chunks) -> tuple[F64, F64]:
    """Points (value, fraction of the weight <= value) of the distribution, at a resolution of 0.4 % of the value: for drawing."""
    weight_in = np.zeros(_BUCKETS)
    for values, weights in chunks():
        weight_in += np.bincount(_bucket(values), weights=weights, minlength=_BUCKETS)
    used = np.flatnonzero(weight_in)
    if not len(used):
        return np.empty(0), np.empty(0)
    upper_edge = ((used + 1) << _DROPPED_BITS).view(np.float64)
    upper_edge[used == 0] = 0.0  # gaps of 0, not of 1e-310 s
    fraction = np.cumsum(weight_in[used])
    return upper_edge, fraction / fraction[-1]


def rank_of(q: float, count: int) -> int:
    """1-based rank of the q-quantile among `count` sorted observations."""
    return max(1, math.ceil(q * count))


def _bucket(values: F64) -> I64:
    return np.ascontiguousarray(values).view(np.int64) >> _DROPPED_BITS


def _collect(chunks: Chunks, buckets: list[int]) -> dict[int, tuple[F64, I64]]:
    """The observations that fall into each of the buckets."""
    parts: dict[int, list[tuple[F64, I64]]] = {bucket: [] for bucket in buckets}
    for values, weights in chunks():
        keys = _bucket(values)
        for bucket in buckets:
            rows = np.flatnonzero(keys == bucket)
            parts[bucket].append((values[rows], weights[rows]))
    return {bucket: (np.concatenate([v for v, _ in pieces]), np.concatenate([w for _, w in pieces])) for bucket, pieces in parts.items()}
