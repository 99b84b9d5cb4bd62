"""timeline.json: a run in the Chrome trace event format, for https://ui.perfetto.dev. Bounded in size.

A process per instance. In it a thread per lane with its spans as slices, counters (KV blocks, requests that run, wait and are transferred),
and a track per request with its phases; where they occur, live migrations and the states of the instance. Arrows lead from the last step
of a request on one instance to its first step on the next.

Format: "Trace Event Format" (Google, 2016), events X, C, M, b, e, s and f, sorted by time. Times are whole microseconds: fractions are read
as floating point and cut to nanoseconds, and then neighbouring slices overlap and are dropped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import numpy as np

from simserve.engine.records import RunRecords
from simserve.report.perfetto.instances import life_events, migration_events
from simserve.report.perfetto.requests import request_events
from simserve.report.perfetto.steps import life_thread, step_events, thread_id
from simserve.report.segments import Segments, Transfers, segments, transfers

MAX_EVENTS = 300_000
"""The file ends at the simulated time at which this many events are reached; about 40 MB."""

_EVENTS_PER_SPAN = 4
_EVENTS_PER_REQUEST = 8
_EVENTS_PER_SEGMENT = 4


def write_timeline(records: RunRecords, path: Path, max_events: int = MAX_EVENTS) -> float:
    """Write the timeline and return the simulated time in seconds at which it was cut (inf = it is whole).

    What begins after the cut is left out; the file states the cut under `otherData`.
    """
    cut_s = cut_time_s(records, max_events)
    found = segments(records, cut_s)
    moved = transfers(records, found)
    events = [*step_events(records, set(moved.source.tolist()), cut_s), *request_events(records, found, moved, cut_s)]
    events += [*life_events(records, cut_s), *migration_events(records, cut_s)]
    events.sort(key=itemgetter(0))  # stable: events of one request at one time keep their order
    with path.open("w", encoding="utf-8") as file:
        other = {"run_s": records.end_s, "cut_at_s": cut_s if math.isfinite(cut_s) else None, "max_events": max_events}
        file.write('{"displayTimeUnit":"ms","otherData":' + json.dumps(other) + ',"traceEvents":[')
        separator = "\n"
        for text in (*_names(records, _roles(found, moved, records)), *(text for _, text in events)):
            file.write(separator + text)
            separator = ",\n"
        file.write("\n]}\n")
    return cut_s


def cut_time_s(records: RunRecords, max_events: int) -> float:
    """The time up to which there are at most about `max_events` events; inf when all fit."""
    spans = np.concatenate([np.empty(0), *(lane.span_start_s for lane in records.lanes)])
    released = records.requests.released_s
    released = released[~np.isnan(released)]
    ended = records.emissions.prefill_end_s[records.emissions.of_prefill()]
    weights = ((spans, _EVENTS_PER_SPAN), (released, _EVENTS_PER_REQUEST), (ended, _EVENTS_PER_SEGMENT))
    times = np.concatenate([column for column, _ in weights])
    weight = np.concatenate([np.full(len(column), events) for column, events in weights])
    if weight.sum() <= max_events:
        return math.inf
    order = np.argsort(times, kind="stable")
    up_to = np.cumsum(weight[order])
    return float(times[order][np.searchsorted(up_to, max_events)])


def _roles(found: Segments, moved: Transfers, records: RunRecords) -> dict[int, str]:
    """Instances that only give requests away, and those that only take them over."""
    instance = np.array([lane.instance for lane in records.lanes], dtype=np.int64)
    sources, destinations = set(moved.source.tolist()), set(instance[found.lane[moved.after]].tolist())
    return {number: "prefill" if number in sources else "decode" for number in sources ^ destinations}


def _names(records: RunRecords, roles: dict[int, str]) -> Iterator[str]:
    """Metadata events: the names of processes and threads. Threads are numbered over the whole file, after the processes."""
    if bool((records.requests.instance < 0).any()):
        yield json.dumps({"ph": "M", "pid": len(records.instances) + 1, "name": "process_name", "args": {"name": "not on an instance"}})
    for number, info in enumerate(records.instances):
        role = f", {roles[number]}" if number in roles else ""
        named = {"name": f"{info.name} ({info.policy}{role})"}
        yield json.dumps({"ph": "M", "pid": number + 1, "name": "process_name", "args": named})
        yield json.dumps({"ph": "M", "pid": number + 1, "name": "process_sort_index", "args": {"sort_index": number}})
    lanes = [lane.instance for lane in records.lanes]
    for number, lane in enumerate(records.lanes):
        thread = f"steps, lane {lane.lane}" if lanes.count(lane.instance) > 1 else "steps"
        place = {"ph": "M", "pid": lane.instance + 1, "tid": thread_id(records, number)}
        yield json.dumps({**place, "name": "thread_name", "args": {"name": thread}})
    for number in sorted({instance for _, instance, _ in records.instance_states}):
        place = {"ph": "M", "pid": number + 1, "tid": life_thread(records, number)}
        yield json.dumps({**place, "name": "thread_name", "args": {"name": "state"}})
