"""Where a request was and when: its segments (see records.Emissions) as times, and its transfers from one instance to another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.engine.records import F64, I64, Emissions, LaneLog, RunRecords


@dataclass(frozen=True, slots=True)
class Segments:
    """One entry a segment, sorted by request and time. Times in seconds.

    lane        index into RunRecords.lanes
    prefilled   whether it began with a finished prefill; otherwise the request came back from swap or from another instance
    begin_s     end of that prefill, or the start of the first step in which the request decoded; steps of one request that follow each
                other are one segment here, whatever number of tokens they gave
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
    of_prefill, at_once = e.of_prefill(), ~np.isnan(e.prefill_end_s)
    kept = np.flatnonzero((at_once | (ticks > 0)) & (records.requests.released_s[e.request] < until_s))
    begin: Any = e.prefill_end_s.copy()
    end, first, last = begin.copy(), begin.copy(), begin.copy()
    for number, lane in enumerate(records.lanes):
        rows = kept[e.lane[kept] == number]
        if not len(rows):
            continue
        step_start_s = _step_start_s(lane)
        middle_s = (step_start_s + lane.step_end_s) / 2
        step = np.flatnonzero(np.repeat(lane.span_decode_requests > 0, lane.span_steps))  # of each tick
        known = rows[at_once[rows]]
        its_step = np.minimum(np.searchsorted(lane.step_end_s, e.prefill_end_s[known]), len(middle_s) - 1)
        first[known] = last[known] = middle_s[its_step]
        verified = ~of_prefill[known]
        begin[known[verified]] = step_start_s[its_step[verified]]
        decodes = rows[ticks[rows] > 0]
        last_step = step[e.last_tick[decodes]]
        end[decodes], last[decodes] = lane.step_end_s[last_step], middle_s[last_step]
        back = decodes[~at_once[decodes]]
        first_step = step[e.first_tick[back]]
        begin[back], first[back] = step_start_s[first_step], middle_s[first_step]
    kept = kept[np.argsort(e.request[kept], kind="stable")]
    begins = ~_goes_on(e, kept, at_once & ~of_prefill)
    opens, closes = kept[begins], kept[np.append(begins[1:], True)] if len(kept) else kept
    return Segments(e.request[opens], e.lane[opens], of_prefill[opens], begin[opens], end[closes], first[opens], last[closes])


def _goes_on(e: Emissions, kept: I64, burst: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the segments, sorted by request and time, are a step with verified tokens that follows the request's segment before it: on
    the same lane, and no step of the lane in which others decoded and it did not lies between them."""
    found = burst[kept]
    if len(kept):
        found[0] = False
        before, after = kept[:-1], kept[1:]
        known_to = np.maximum(e.last_tick, e.first_tick)
        found[1:] &= (e.request[before] == e.request[after]) & (e.lane[before] == e.lane[after])
        found[1:] &= e.first_tick[after] <= known_to[before] + 1
    return found


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
