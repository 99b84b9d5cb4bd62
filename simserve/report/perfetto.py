"""timeline.json: a run in the Chrome trace event format, for https://ui.perfetto.dev. Streamed to the file, bounded in size.

A process per instance; in it a thread per lane with its spans as slices, counters (KV blocks, waiting, requests in the step), and a track
per request with its phases: queued, prefill, decode, preempted. Format: "Trace Event Format" (Google, 2016), events X, C, M, b and e;
its times are microseconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simserve.engine.records import I64, InstanceInfo, LaneLog, RunRecords, Status
from simserve.report.utilisation import span_end_s

MAX_EVENTS = 300_000
"""The file ends at the simulated time at which this many events are reached; about 40 MB."""

_EVENTS_PER_SPAN = 4
_EVENTS_PER_REQUEST = 8


def write_timeline(records: RunRecords, path: Path, max_events: int = MAX_EVENTS) -> float:
    """Write the timeline and return the simulated time in seconds at which it was cut (inf = it is whole).

    What begins after the cut is left out; the file states the cut under `otherData`.
    """
    cut_s = cut_time_s(records, max_events)
    with path.open("w", encoding="utf-8") as file:
        other = {"run_s": records.end_s, "cut_at_s": cut_s if math.isfinite(cut_s) else None, "max_events": max_events}
        file.write('{"displayTimeUnit":"ms","otherData":' + json.dumps(other) + ',"traceEvents":[\n')
        file.write(json.dumps({"ph": "M", "pid": 1, "name": "trace", "args": {"name": "simserve"}}))
        for event in _events(records, cut_s):
            file.write(",\n" + event)
        file.write("\n]}\n")
    return cut_s


def cut_time_s(records: RunRecords, max_events: int) -> float:
    """The time up to which there are at most about `max_events` events; inf when all fit."""
    spans = np.concatenate([np.empty(0), *(lane.span_start_s for lane in records.lanes)])
    released = records.requests.released_s
    released = released[~np.isnan(released)]
    segments = records.emissions.prefill_end_s[~np.isnan(records.emissions.prefill_end_s)]
    times = np.concatenate([spans, released, segments])
    weight = np.concatenate([np.full(len(spans), _EVENTS_PER_SPAN), np.full(len(released), _EVENTS_PER_REQUEST), np.full(len(segments), 4)])
    if weight.sum() <= max_events:
        return math.inf
    order = np.argsort(times, kind="stable")
    up_to = np.cumsum(weight[order])
    return float(times[order][np.searchsorted(up_to, max_events)])


def _events(records: RunRecords, cut_s: float) -> Iterator[str]:
    for number, info in enumerate(records.instances):
        yield from _names(number, info, records)
    yield json.dumps({"ph": "M", "pid": 0, "name": "process_name", "args": {"name": "not on an instance"}})
    for lane in records.lanes:
        yield from _span_events(lane, cut_s)
    yield from _request_events(records, cut_s)


def _names(number: int, info: InstanceInfo, records: RunRecords) -> Iterator[str]:
    pid = number + 1
    yield json.dumps({"ph": "M", "pid": pid, "name": "process_name", "args": {"name": f"{info.name} ({info.policy})"}})
    for lane in records.lanes:
        if lane.instance == number:
            yield json.dumps(
                {"ph": "M", "pid": pid, "tid": lane.lane + 1, "name": "thread_name", "args": {"name": f"steps, lane {lane.lane}"}}
            )


def _span_events(lane: LaneLog, cut_s: float) -> Iterator[str]:
    pid, tid = lane.instance + 1, lane.lane + 1
    columns = (
        lane.span_start_s, span_end_s(lane), lane.span_steps, lane.span_decode_requests, lane.span_context_tokens,
        lane.span_prefill_requests, lane.span_prefill_tokens, lane.span_kv_blocks, lane.span_waiting,
    )  # fmt: skip
    for begin in range(0, len(lane.span_steps), 4096):
        for row in zip(*(column[begin : begin + 4096].tolist() for column in columns), strict=True):
            start_s, end_s, steps, decode, context, chunks, tokens, kv, waiting = row
            if start_s >= cut_s:
                return
            head = f'"pid":{pid},"tid":{tid},"ts":{start_s * 1e6:.3f}'
            what = f"decode {decode}" if not tokens else f"prefill {tokens}" + (f" + decode {decode}" if decode else "")
            many = f" ({steps} steps)" if steps > 1 else ""
            args = f'"steps":{steps},"decode_requests":{decode},"context_tokens":{context}'
            args += f',"prefill_requests":{chunks},"prefill_tokens":{tokens}'
            yield f'{{"ph":"X",{head},"dur":{(end_s - start_s) * 1e6:.3f},"name":"{what}{many}","args":{{{args}}}}}'
            yield _counter(head, "requests in the step", decode + chunks)
            yield _counter(head, "waiting requests", waiting)
            yield _counter(f'"pid":{pid},"tid":{tid},"ts":{end_s * 1e6:.3f}', "KV blocks in use", kv)


def _counter(head: str, name: str, value: int) -> str:
    return f'{{"ph":"C",{head},"name":"{name}","args":{{"value":{value}}}}}'


def _request_events(records: RunRecords, cut_s: float) -> Iterator[str]:
    r, table = records.requests, records.table
    rows = np.flatnonzero(r.released_s < cut_s)
    segments = _segments_by_request(records)
    for row in rows.tolist():
        pid, released = int(r.instance[row]) + 1, float(r.released_s[row])
        end = float(r.finish_s[row]) if not math.isnan(r.finish_s[row]) else records.end_s
        scheduled = float(r.scheduled_s[row])
        status = Status(int(r.status[row])).name.lower()
        facts: dict[str, Any] = {
            "status": status,
            "prompt_tokens": int(table.prompt_tokens[row]),
            "output_tokens": int(table.output_tokens[row]),
            "preemptions": int(r.preemptions[row]),
        }
        if r.reason[row]:
            facts["reason"] = r.reasons[int(r.reason[row])]
        yield from _slice(pid, row, f"request {row}", released, end, facts)
        if math.isnan(scheduled):
            yield from _slice(pid, row, "queued", released, end)
            continue
        yield from _slice(pid, row, "queued", released, scheduled)
        at = scheduled
        for name, phase_start_s, phase_end_s in _phases(scheduled, segments.get(row, [])):
            yield from _slice(pid, row, name, phase_start_s, phase_end_s)
            at = phase_end_s
        if at < end and status != "completed":
            yield from _slice(pid, row, "prefill" if at == scheduled else "preempted", at, end)


def _phases(scheduled_s: float, segments: list[tuple[float, float, float]]) -> Iterator[tuple[str, float, float]]:
    """(name, start, end) of what a request did after it was scheduled; segments are (prefill end or NaN, first token, last token)."""
    at = scheduled_s
    for number, (prefill_end, first, last) in enumerate(segments):
        begins = first if math.isnan(prefill_end) else prefill_end
        if begins > at:
            yield "prefill" if number == 0 else "preempted", at, begins
        if last > begins:
            yield "decode", begins, last
        at = last


def _segments_by_request(records: RunRecords) -> dict[int, list[tuple[float, float, float]]]:
    """Request -> its segments with tokens, in order of time."""
    e = records.emissions
    first: Any = np.full(len(e.request), math.nan)
    last: Any = first.copy()
    for number, lane in enumerate(records.lanes):
        ticks = lane.tick_end_s()
        rows: I64 = np.flatnonzero((e.lane == number) & (e.last_tick >= e.first_tick))
        first[rows], last[rows] = ticks[e.first_tick[rows]], ticks[e.last_tick[rows]]
    last = np.where(np.isnan(last), e.prefill_end_s, last)
    out: dict[int, list[tuple[float, float, float]]] = {}
    for request, prefill_end, start, stop in zip(e.request.tolist(), e.prefill_end_s.tolist(), first.tolist(), last.tolist(), strict=True):
        if not math.isnan(stop):
            out.setdefault(request, []).append((prefill_end, start, stop))
    return out


def _slice(pid: int, row: int, name: str, start_s: float, end_s: float, args: dict[str, Any] | None = None) -> Iterator[str]:
    """An asynchronous slice on the track of a request: a begin and an end event with the same category and id."""
    head = f'"cat":"request","id":{row},"pid":{pid},"tid":0,"name":"{name}"'
    tail = f',"args":{json.dumps(args)}' if args else ""
    yield f'{{"ph":"b",{head},"ts":{start_s * 1e6:.3f}{tail}}}'
    yield f'{{"ph":"e",{head},"ts":{end_s * 1e6:.3f}}}'
