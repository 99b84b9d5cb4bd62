"""Where a request was and when: its segments (see records.Emissions) as times, and its transfers from one instance to another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.engine.records import F64, I64, LaneLog, RunRecords


@dataclass(frozen=True, slots=True)
class Segments:
    """One entry a segment, sorted by request and time. Times in seconds.

    lane        index into RunRecords.lanes
    prefilled   whether it began with a finished prefill; otherwise the request came back from swap or from another instance
    begin_s     end of that prefill, or the start of the first step in which the request decoded
    end_s       its last token
    first_s, last_s  the middle of the steps that emitted its first and its last token: a point that is inside one step only
    """

    request: I64
    lane: I64
    prefilled: NDArray[np.bool_]
    begin_s: F64
    end_s: F64
    first_s: F64
    last_s: F64


@dataclass(frozen=True, slots=True)
class Transfers:
    """One entry for each change of instance: of which request, between which segments (indices) and instances, from and to when."""

    request: I64
    before: I64
    after: I64
    source: I64
    begin_s: F64
    end_s: F64


def segments(records: RunRecords, until_s: float = math.inf) -> Segments:
    """The segments with tokens of the requests that were released before `until_s`."""
    e = records.emissions
    ticks = e.last_tick - e.first_tick + 1
    prefilled = ~np.isnan(e.prefill_end_s)
    kept = np.flatnonzero((prefilled | (ticks > 0)) & (records.requests.released_s[e.request] < until_s))
    begin: Any = e.prefill_end_s.copy()
    end, first, last = begin.copy(), begin.copy(), begin.copy()
    for number, lane in enumerate(records.lanes):
        rows = kept[e.lane[kept] == number]
        if not len(rows):
            continue
        step_start_s = _step_start_s(lane)
        middle_s = (step_start_s + lane.step_end_s) / 2
        step = np.flatnonzero(np.repeat(lane.span_decode_requests > 0, lane.span_steps))  # of each tick
        with_prefill = rows[prefilled[rows]]
        step_of_prefill = np.minimum(np.searchsorted(lane.step_end_s, e.prefill_end_s[with_prefill]), len(middle_s) - 1)
        first[with_prefill] = last[with_prefill] = middle_s[step_of_prefill]
        decodes = rows[ticks[rows] > 0]
        last_step = step[e.last_tick[decodes]]
        end[decodes], last[decodes] = lane.step_end_s[last_step], middle_s[last_step]
        back = decodes[~prefilled[decodes]]
        first_step = step[e.first_tick[back]]
        begin[back], first[back] = step_start_s[first_step], middle_s[first_step]
    kept = kept[np.argsort(e.request[kept], kind="stable")]
    return Segments(e.request[kept], e.lane[kept], e.of_prefill()[kept], begin[kept], end[kept], first[kept], last[kept])


def transfers(records: RunRecords, of: Segments) -> Transfers:
    """The pairs of neighbouring segments of one request on two instances. A request that was prefilled again started anew: no move."""
    instance = np.array([lane.instance for lane in records.lanes], dtype=np.int64)[of.lane] if len(of.lane) else of.lane
    after = 1 + np.flatnonzero((of.request[1:] == of.request[:-1]) & (instance[1:] != instance[:-1]) & ~of.prefilled[1:])
    before = after - 1
    return Transfers(of.request[after], before, after, instance[before], of.end_s[before], of.begin_s[after])


def _step_start_s(lane: LaneLog) -> F64:
    """When each step of a lane began."""
    start = np.concatenate([lane.step_end_s[:1], lane.step_end_s[:-1]])
    start[lane.span_first_step] = lane.span_start_s
    return start
