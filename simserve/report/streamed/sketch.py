"""Percentiles of more values than are kept, within a stated error.

Non-negative doubles sort like their bit patterns. Exponent and first 10 bits of the fraction are a bucket: its ends differ by a 1,024th
of the lower one at most. A percentile as in `quantiles.py` is a value of the bucket that the cumulated counts name, so the bucket's middle
is within a 2,048th of it. Counts and maxima are exact, means but for the order of their sums. The idea is that of HdrHistogram and of
DDSketch (Masson, Rim, Lee 2019), with buckets that cost no logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from simserve.engine.records import F64, I64
from simserve.report.quantiles import NO_STATS, QUANTILES, Stats, rank_of

RELATIVE_ERROR = 2.0**-11

_DROPPED_BITS = 42
_LEAST_S = 2.0**-30
"""Values below a nanosecond count as 0: no clock of a serving system tells them apart."""


class Sketch:
    """The distribution of values >= 0, as counts in buckets."""

    __slots__ = ("_counts", "_first", "_sum", "_total", "_zeros", "largest")

    def __init__(self) -> None:
        self._counts: I64 = np.zeros(0, dtype=np.int64)
        self._first = 0
        """The number of the first bucket in `_counts`."""
        self._zeros = self._total = 0
        self._sum = 0.0
        self.largest = -math.inf

    def add(self, values: F64, weights: I64 | None = None) -> None:
        """More values; NaN is none. `weights`: so many of each."""
        if weights is None:
            values = values[~np.isnan(values)]
        else:
            some = weights > 0
            values, weights = values[some], weights[some]
        if not len(values):
            return
        self._total += len(values) if weights is None else int(weights.sum())
        self._sum += float(values.sum() if weights is None else (values * weights).sum())
        self.largest = max(self.largest, float(values.max()))
        small = values < _LEAST_S
        if small.any():
            self._zeros += int(small.sum() if weights is None else weights[small].sum())
            values, weights = values[~small], None if weights is None else weights[~small]
        if not len(values):
            return
        bucket = np.ascontiguousarray(values).view(np.int64) >> _DROPPED_BITS
        low, high = int(bucket.min()), int(bucket.max()) + 1
        self._make_room(low, high)
        more = np.bincount(bucket - low, weights=weights, minlength=high - low)
        self._counts[low - self._first : high - self._first] += more.astype(np.int64)

    @staticmethod
    def of_all(sketches: Iterable[Sketch]) -> Sketch:
        """The values of all of them."""
        whole = Sketch()
        for one in sketches:
            whole._total += one._total
            whole._sum += one._sum
            whole._zeros += one._zeros
            whole.largest = max(whole.largest, one.largest)
            if len(one._counts):
                whole._make_room(one._first, one._first + len(one._counts))
                whole._counts[one._first - whole._first :][: len(one._counts)] += one._counts
        return whole

    def _make_room(self, low: int, high: int) -> None:
        if not len(self._counts):
            self._first, self._counts = low, np.zeros(high - low, dtype=np.int64)
            return
        before, after = max(self._first - low, 0), max(high - self._first - len(self._counts), 0)
        if before or after:
            self._counts = np.pad(self._counts, (before, after))
            self._first -= before

    def stats(self) -> Stats:
        """What `quantiles.describe` says of the same values, percentiles within RELATIVE_ERROR."""
        if not self._total:
            return NO_STATS
        up_to = self._zeros + np.cumsum(self._counts)
        p50, p90, p95, p99 = (self._value(rank_of(q, self._total), up_to) for _, q in QUANTILES)
        return Stats(self._total, self._sum / self._total, p50, p90, p95, p99, self.largest)

    def _value(self, number: int, up_to: I64) -> float:
        if number <= self._zeros:
            return 0.0
        bucket = self._first + int(np.searchsorted(up_to, number))
        low, high = (np.array([bucket, bucket + 1]) << _DROPPED_BITS).view(np.float64).tolist()
        return float(min((low + high) / 2.0, self.largest))
