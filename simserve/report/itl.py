"""Inter-token latencies (ITL) without visiting tokens.

A request that decodes at ticks first .. last of a lane has the gaps between these ticks. So the distribution over all tokens is that of
the gaps between consecutive ticks, each weighted by the number of requests that decode across it (a running sum of +1 where a segment
begins and -1 where it ends), together with a few gaps of single requests: from the token of a prefill to the first tick after it, and
across the break between two segments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simserve.engine.records import F64, I64, Emissions, RunRecords
from simserve.report.quantiles import Stats, describe_weighted, weighted_cdf

_CHUNK_TICKS = 1 << 20
_CHUNK_SEGMENTS = 1 << 16

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TokenGaps:
    """The gaps between consecutive output tokens of the requests of one run.

    emissions       the segments of the run
    requests        rows of the request table
    tick_end_s      for each lane, the times of its ticks
    lane_rows       for each lane, the segments of two ticks or more on it, in order of first tick
    single_request  request of each gap that belongs to one request only
    single_s        that gap in seconds
    single_end_s    when it ended
    within_step     so many of the single gaps, the last ones, lie between tokens that one step gave a request: they are 0
    """

    emissions: Emissions
    requests: int
    tick_end_s: tuple[F64, ...]
    lane_rows: tuple[I64, ...]
    single_request: I64
    single_s: F64
    single_end_s: F64
    within_step: int = 0

    @staticmethod
    def of(records: RunRecords) -> TokenGaps:
        """The gaps of a run; work proportional to its steps and segments."""
        emissions = records.emissions
        ticks = tuple(lane.tick_end_s() for lane in records.lanes)
        lane_rows = []
        first_tick_s = np.full(len(emissions.request), math.nan)
        last_tick_s = first_tick_s.copy()
        for number, end_s in enumerate(ticks):
            rows = np.flatnonzero((emissions.lane == number) & (emissions.last_tick >= emissions.first_tick))
            first_tick_s[rows] = end_s[emissions.first_tick[rows]]
            last_tick_s[rows] = end_s[emissions.last_tick[rows]]
            rows = rows[emissions.last_tick[rows] > emissions.first_tick[rows]]
            lane_rows.append(rows[np.argsort(emissions.first_tick[rows], kind="stable")])
        begins_s = np.where(np.isnan(emissions.prefill_end_s), first_tick_s, emissions.prefill_end_s)
        ends_s = np.where(np.isnan(last_tick_s), emissions.prefill_end_s, last_tick_s)
        joins = np.flatnonzero(~np.isnan(emissions.prefill_end_s) & ~np.isnan(first_tick_s))
        with_tokens = np.flatnonzero(~np.isnan(begins_s))
        by_request = with_tokens[np.argsort(emissions.request[with_tokens], kind="stable")]
        again = np.flatnonzero(emissions.request[by_request[1:]] == emissions.request[by_request[:-1]])
        before, after = by_request[again], by_request[again + 1]
        burst, together = emissions.bursts[:, 0], np.maximum(emissions.bursts[:, 1] - 1, 0)  # tokens of one step follow at once
        return TokenGaps(
            emissions=emissions,
            requests=len(records.table),
            tick_end_s=ticks,
            lane_rows=tuple(lane_rows),
            single_request=np.concatenate(
                [emissions.request[joins], emissions.request[after], np.repeat(emissions.request[burst], together)]
            ),
            single_s=np.concatenate(
                [first_tick_s[joins] - emissions.prefill_end_s[joins], begins_s[after] - ends_s[before], np.zeros(int(together.sum()))]
            ),
            single_end_s=np.concatenate([first_tick_s[joins], begins_s[after], np.repeat(emissions.prefill_end_s[burst], together)]),
            within_step=int(together.sum()),
        )

    def stats(self, selected: Mask, per_emission: bool = False) -> Stats:
        """Stats over all gaps of the selected requests (mask over the rows of the request table). `per_emission`: as `weighted`."""
        return describe_weighted(lambda: self.weighted(selected, per_emission))

    def cdf(self, selected: Mask, per_emission: bool = False) -> tuple[F64, F64]:
        """Points of the distribution of the gaps of the selected requests, for drawing."""
        return weighted_cdf(lambda: self.weighted(selected, per_emission))

    def weighted(self, selected: Mask, per_emission: bool = False) -> Iterator[tuple[F64, I64]]:
        """Gaps in seconds and how many tokens waited that long, in pieces: the single ones, then each lane's ticks in order.

        per_emission  tokens that one step gave a request count as one, without gaps between them
        """
        kept = len(self.single_s) - (self.within_step if per_emission else 0)
        single = self.single_s[:kept][selected[self.single_request[:kept]]]
        yield single, np.ones(len(single), dtype=np.int64)
        for lane in range(len(self.tick_end_s)):
            for _, gaps, weights in self.by_tick(lane, selected):
                yield gaps, weights

    def by_tick(self, lane: int, selected: Mask) -> Iterator[tuple[int, F64, I64]]:
        """(number of the first tick, gap before each tick, selected requests decoding across it) in pieces, for one lane."""
        end_s = self.tick_end_s[lane]
        rows = self.lane_rows[lane]
        rows = rows[selected[self.emissions.request[rows]]]
        joins = self.emissions.first_tick[rows] + 1  # sorted: rows are in order of first tick
        leaves = np.sort(self.emissions.last_tick[rows] + 1)
        across = 0
        for begin in range(1, len(end_s), _CHUNK_TICKS):
            stop = min(begin + _CHUNK_TICKS, len(end_s))
            weights = across + np.cumsum(_counts(joins, begin, stop) - _counts(leaves, begin, stop))
            across = int(weights[-1])
            yield begin, np.diff(end_s[begin - 1 : stop]), weights

    def longest_s(self) -> F64:
        """The longest gap of each request in seconds; NaN for requests of fewer than two tokens."""
        longest = np.full(self.requests, -math.inf)
        np.maximum.at(longest, self.single_request, self.single_s)
        for end_s, all_rows in zip(self.tick_end_s, self.lane_rows, strict=True):
            for begin in range(0, len(all_rows), _CHUNK_SEGMENTS):
                rows = all_rows[begin : begin + _CHUNK_SEGMENTS]
                first, last = self.emissions.first_tick[rows], self.emissions.last_tick[rows]
                base = int(first[0])
                gaps = np.append(np.diff(end_s[base : int(last.max()) + 1]), 0.0)
                # reduceat reads [from, to) pairs; what it computes between two pairs is dropped. Rows are in order of first tick, so
                # those in-between stretches never overlap and cost at most one pass.
                bounds = np.empty(2 * len(rows), dtype=np.int64)
                bounds[0::2] = first - base
                bounds[1::2] = last - base
                np.maximum.at(longest, self.emissions.request[rows], np.maximum.reduceat(gaps, bounds)[0::2])
        return np.where(np.isneginf(longest), math.nan, longest)

    def count_over(self, limit_s: F64) -> I64:
        """For each request, how many of its gaps are longer than `limit_s` of its row (NaN = no limit, counts 0)."""
        over = np.zeros(self.requests, dtype=np.int64)
        for limit in np.unique(limit_s[~np.isnan(limit_s)]):
            limited = limit_s == limit
            rows = limited[self.single_request] & (self.single_s > limit)
            np.add.at(over, self.single_request[rows], 1)
            for end_s, all_rows in zip(self.tick_end_s, self.lane_rows, strict=True):
                segments = all_rows[limited[self.emissions.request[all_rows]]]
                if not len(segments):
                    continue
                long_so_far = np.zeros(len(end_s), dtype=np.int64)
                np.cumsum(np.diff(end_s) > limit, out=long_so_far[1:])
                count = long_so_far[self.emissions.last_tick[segments]] - long_so_far[self.emissions.first_tick[segments]]
                np.add.at(over, self.emissions.request[segments], count)
        return over


def _counts(sorted_ticks: I64, begin: int, stop: int) -> I64:
    """How many of the ticks fall on each of begin .. stop - 1."""
    low, high = np.searchsorted(sorted_ticks, (begin, stop))
    return np.bincount(sorted_ticks[low:high] - begin, minlength=stop - begin)


def tokens_between(records: RunRecords, gaps: TokenGaps, start_s: float, end_s: float) -> int:
    """Output tokens that appeared at times in [start_s, end_s], exactly."""
    emissions = records.emissions
    total = int(emissions.at_once()[(emissions.prefill_end_s >= start_s) & (emissions.prefill_end_s <= end_s)].sum())
    for number, ticks in enumerate(gaps.tick_end_s):
        rows = (emissions.lane == number) & (emissions.last_tick >= emissions.first_tick)
        low = int(np.searchsorted(ticks, start_s, side="left"))
        high = int(np.searchsorted(ticks, end_s, side="right"))
        inside = np.minimum(emissions.last_tick[rows] + 1, high) - np.maximum(emissions.first_tick[rows], low)
        total += int(np.maximum(inside, 0).sum())
    return total
