"""The requests of the timeline: a track each with its phases, arrows between instances, and a counter of those on their way."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from simserve.engine.records import RunRecords, Status
from simserve.report.perfetto.steps import Event, counter, microseconds, thread_id
from simserve.report.segments import Segments, Transfers
from simserve.report.utilisation import level_steps


class _Phase(NamedTuple):
    name: str
    begin_s: float
    end_s: float


class _Stay(NamedTuple):
    """What a request did on one instance (-1 = none)."""

    instance: int
    phases: list[_Phase]


def request_events(records: RunRecords, of: Segments, moved: Transfers, cut_s: float) -> Iterator[Event]:
    """The events of the requests that were released before the cut; those of one request are in order."""
    first = np.searchsorted(of.request, np.arange(len(records.table) + 1))
    for row in np.flatnonzero(records.requests.released_s < cut_s).tolist():
        facts = _facts(records, row)
        for stay in _stays(records, row, of, range(int(first[row]), int(first[row + 1]))):
            if stay.phases:
                yield from _track(records, row, stay, facts)
    yield from _arrows(records, of, moved, cut_s)
    for source in np.unique(moved.source).tolist():
        ours = moved.source == source
        for time_s, level in zip(*(column.tolist() for column in level_steps(moved.begin_s[ours], moved.end_s[ours])), strict=True):
            yield counter(source + 1, microseconds(time_s), "requests", "in KV transfer", level)


def _facts(records: RunRecords, row: int) -> dict[str, Any]:
    r, table = records.requests, records.table
    facts: dict[str, Any] = {
        "request": row,
        "status": Status(int(r.status[row])).name.lower(),
        "prompt_tokens": int(table.prompt_tokens[row]),
        "output_tokens": int(table.output_tokens[row]),
        "preemptions": int(r.preemptions[row]),
    }
    if r.reason[row]:
        facts["reason"] = r.reasons[int(r.reason[row])]
    return facts


def _stays(records: RunRecords, row: int, of: Segments, own: range) -> list[_Stay]:
    """The phases of a request from its release to its end, without gaps; `own` are its segments."""
    r = records.requests
    released, scheduled = float(r.released_s[row]), float(r.scheduled_s[row])
    end = float(r.finish_s[row]) if not math.isnan(r.finish_s[row]) else records.end_s
    final = int(r.instance[row])
    if math.isnan(scheduled):
        return [_Stay(final, [_Phase("queued", released, end)])]
    instance = records.lanes[int(of.lane[own[0]])].instance if own else final
    stays = [_Stay(instance, [_Phase("queued", released, scheduled)])]
    at = scheduled
    for number, k in enumerate(own):
        here = records.lanes[int(of.lane[k])].instance
        begin, stop = float(of.begin_s[k]), float(of.end_s[k])
        if here == stays[-1].instance:
            waited = "prefill" if number == 0 else "preempted"
        elif of.prefilled[k]:
            stays.append(_Stay(here, []))
            waited = "started again"
        else:
            waited = "KV transfer"
        if begin > at:
            stays[-1].phases.append(_Phase(waited, at, begin))
        if here != stays[-1].instance:
            stays.append(_Stay(here, []))
        if stop > begin:
            stays[-1].phases.append(_Phase("decode", begin, stop))
        at = stop
    if at < end and r.status[row] != Status.COMPLETED:
        name = "prefill" if not own else "KV transfer" if final != stays[-1].instance else "preempted"
        stays[-1].phases.append(_Phase(name, at, end))
    return stays


def _track(records: RunRecords, row: int, stay: _Stay, facts: dict[str, Any]) -> Iterator[Event]:
    """Asynchronous slices: the request, and in it its phases. Perfetto draws the tracks of one name as one group of rows."""
    pid = stay.instance + 1 if stay.instance >= 0 else len(records.instances) + 1
    head = f'"cat":"request","id2":{{"local":"{row}"}},"pid":{pid}'
    begin, end = microseconds(stay.phases[0].begin_s), microseconds(stay.phases[-1].end_s)
    yield begin, f'{{"ph":"b",{head},"name":"request","ts":{begin},"args":{json.dumps(facts)}}}'
    for name, begin_s, end_s in stay.phases:
        for kind, ts in (("b", microseconds(begin_s)), ("e", microseconds(end_s))):
            yield ts, f'{{"ph":"{kind}",{head},"name":"{name}","ts":{ts}}}'
    yield end, f'{{"ph":"e",{head},"name":"request","ts":{end}}}'


def _arrows(records: RunRecords, of: Segments, moved: Transfers, cut_s: float) -> Iterator[Event]:
    """From the step of a request's last token on one instance to the step of its first token on the next."""
    for number, (before, after) in enumerate(zip(moved.before.tolist(), moved.after.tolist(), strict=True)):
        if of.begin_s[after] >= cut_s:  # that step is not in the file
            continue
        for kind, k, time_s in (("s", before, of.last_s[before]), ("f", after, of.first_s[after])):
            lane = int(of.lane[k])
            place = f'"pid":{records.lanes[lane].instance + 1},"tid":{thread_id(records, lane)}'
            bound = ',"bp":"e"' if kind == "f" else ""
            ts = microseconds(time_s)
            yield ts, f'{{"ph":"{kind}","cat":"request","name":"KV transfer","id":{number + 1},{place},"ts":{ts}{bound}}}'
