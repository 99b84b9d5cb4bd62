"""Quantities over simulated time, in a fixed number of bins: what the plots draw, whatever the length of the run."""

from __future__ import annotations

import itertools
import math

import numpy as np

from simserve.engine.records import F64, I64, LaneLog, RunRecords
from simserve.report.itl import TokenGaps
from simserve.report.utilisation import level_steps, span_end_s

BINS = 200
_MAX_PER_BIN = 20_000


def bin_edges(records: RunRecords, bins: int = BINS) -> F64:
    """bins + 1 equally spaced times from 0 to the end of the run, in seconds."""
    return np.linspace(0.0, max(records.end_s, 1e-9), bins + 1)


def mean_in_bins(start_s: F64, end_s: F64, value: F64 | I64, edges: F64) -> F64:
    """Time average in each bin of a quantity that is `value[i]` in [start_s[i], end_s[i]] (disjoint, in order) and 0 elsewhere."""
    if not len(start_s):
        return np.zeros(len(edges) - 1)
    area = np.concatenate([[0.0], np.cumsum(value * (end_s - start_s))])
    times = np.stack([start_s, end_s], axis=1).ravel()
    total = np.stack([area[:-1], area[1:]], axis=1).ravel()
    mean: F64 = np.diff(np.interp(edges, times, total)) / np.diff(edges)
    return mean


def level_in_bins(from_s: F64, to_s: F64, edges: F64) -> tuple[F64, F64]:
    """(time average, maximum) in each bin of the number of open intervals."""
    time, level = level_steps(from_s, to_s)
    if not len(time):
        return np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    mean = mean_in_bins(time, np.append(time[1:], time[-1]), level, edges)
    held = np.concatenate([[0], level])[np.searchsorted(time, edges[:-1], side="right")].astype(np.float64)
    peak = held
    bins = np.searchsorted(edges, time, side="right") - 1
    inside = (bins >= 0) & (bins < len(edges) - 1)
    np.maximum.at(peak, bins[inside], level[inside])
    return mean, peak


def running_in_bins(lane: LaneLog, edges: F64) -> F64:
    """Mean number of requests in the steps of a lane, per bin (0 while it is idle)."""
    return mean_in_bins(lane.span_start_s, span_end_s(lane), lane.span_decode_requests + lane.sliced()[0], edges)


def kv_used_in_bins(records: RunRecords, instance: int, edges: F64) -> F64:
    """Mean fraction of an instance's KV blocks in use, per bin. All its lanes log the same pool, so the first speaks for all."""
    lane = next((lane for lane in records.lanes if lane.instance == instance), None)
    blocks = records.instances[instance].kv_blocks
    if lane is None or not blocks:
        return np.zeros(len(edges) - 1)
    return mean_in_bins(lane.span_start_s, span_end_s(lane), lane.span_kv_blocks, edges) / blocks


def output_tokens_in_bins(records: RunRecords, gaps: TokenGaps, edges: F64) -> F64:
    """Output tokens that appeared in each bin."""
    first, at_once = records.emissions.prefill_end_s, records.emissions.at_once()
    tokens = np.histogram(first[at_once > 0], edges, weights=at_once[at_once > 0])[0].astype(np.float64)
    for lane, ticks in zip(records.lanes, gaps.tick_end_s, strict=True):
        if len(lane.ticks):  # there every token of the group is one of a burst
            continue
        decodes = lane.span_decode_requests > 0
        group = np.repeat(lane.span_decode_requests[decodes], lane.span_steps[decodes])
        tokens += np.histogram(ticks, edges, weights=group)[0]
    return tokens


def prompt_tokens_in_bins(records: RunRecords, edges: F64) -> F64:
    """Prompt tokens computed in each bin, recomputation included."""
    tokens = np.zeros(len(edges) - 1)
    for lane in records.lanes:
        tokens += np.histogram(span_end_s(lane), edges, weights=lane.computed_prefills()[1])[0]
    return tokens


def percentiles_in_bins(time_s: F64, value: F64, edges: F64, levels: tuple[float, ...]) -> F64:
    """Array (levels, bins): percentiles of the values whose time falls into each bin; NaN where there are none."""
    out = np.full((len(levels), len(edges) - 1), math.nan)
    known = ~(np.isnan(time_s) | np.isnan(value))
    time_s, value = time_s[known], value[known]
    order = np.argsort(time_s, kind="stable")
    time_s, value = time_s[order], value[order]
    cut = np.searchsorted(time_s, edges)
    cut[-1] = len(time_s)
    for number, (low, high) in enumerate(itertools.pairwise(cut)):
        if high > low:
            out[:, number] = np.quantile(value[low:high], levels, method="inverted_cdf")
    return out


def itl_percentiles_in_bins(gaps: TokenGaps, edges: F64, levels: tuple[float, ...]) -> F64:
    """Array (levels, bins): percentiles over tokens of the gap before each, by the time of the token; NaN where there are none.

    Bins of more than 20,000 ticks are thinned to every k-th tick: this is for drawing.
    """
    everyone = np.ones(gaps.requests, dtype=np.bool_)
    weights = [
        np.concatenate([np.zeros(1, dtype=np.int64), *(w for _, _, w in gaps.by_tick(n, everyone))]) for n in range(len(gaps.tick_end_s))
    ]
    order = np.argsort(gaps.single_end_s, kind="stable")
    single_end, single_gap = gaps.single_end_s[order], gaps.single_s[order]
    out = np.full((len(levels), len(edges) - 1), math.nan)
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        a, b = np.searchsorted(single_end, (low, high))
        values, counts = [single_gap[a:b]], [np.ones(b - a, dtype=np.int64)]
        for ticks, weight in zip(gaps.tick_end_s, weights, strict=True):
            a, b = np.searchsorted(ticks, (low, high))
            a = max(a, 1)
            if b <= a:
                continue
            every = 1 + (b - a) // _MAX_PER_BIN
            values.append(np.diff(ticks[a - 1 : b])[::every])
            counts.append(weight[a:b:every])
        value, count = np.concatenate(values), np.concatenate(counts)
        if not count.sum():
            continue
        rank = np.argsort(value, kind="stable")
        up_to = np.cumsum(count[rank])
        out[:, number] = value[rank][np.searchsorted(up_to, np.array(levels) * up_to[-1])]
    return out


def cdf_points(values: F64, points: int = 600) -> tuple[F64, F64]:
    """(value, fraction <= value) of a sample, thinned so that the tail keeps its detail: even ranks plus the last hundred."""
    known = np.sort(values[~np.isnan(values)])
    count = len(known)
    if count == 0:
        return np.empty(0), np.empty(0)
    rank = np.arange(count)
    if count > points + 100:
        even = np.linspace(0, count - 1, points).astype(np.int64)
        tail = count - 1 - np.unique(np.geomspace(1, count, 100).astype(np.int64) - 1)
        rank = np.unique(np.concatenate([even, tail]))
    return known[rank], (rank + 1) / count
