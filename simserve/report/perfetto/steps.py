"""The steps of the timeline: a slice for each span of a lane, and the counters of its instance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simserve.engine.records import I64, LaneLog, RunRecords
from simserve.report.utilisation import span_end_s

Event = tuple[int, str]
"""Microseconds, and the event as JSON."""


def microseconds(time_s: float) -> int:
    """Simulated seconds as the whole microseconds of the file."""
    return round(1e6 * time_s)


def thread_id(records: RunRecords, lane: int) -> int:
    """The thread of a lane (its place in records.lanes): different from every process and every other thread of the file."""
    return len(records.instances) + 2 + lane


def life_thread(records: RunRecords, instance: int) -> int:
    """The thread of the states of an instance, after those of all lanes."""
    return thread_id(records, len(records.lanes) + instance)


def counter(pid: int, ts: int, name: str, unit: str, value: int) -> Event:
    """A new value of a counter; Perfetto calls it 'name unit'."""
    return ts, f'{{"ph":"C","pid":{pid},"ts":{ts},"name":"{name}","args":{{"{unit}":{value}}}}}'


def step_events(records: RunRecords, sources: set[int], cut_s: float) -> Iterator[Event]:
    """The events of all lanes. `sources` are the instances that hand requests over."""
    lanes = [lane.instance for lane in records.lanes]
    for number, lane in enumerate(records.lanes):
        alone = lanes.count(lane.instance) == 1
        yield from _lane_events(lane, thread_id(records, number), alone, alone and lane.instance not in sources, cut_s)


def _lane_events(lane: LaneLog, tid: int, alone: bool, empties: bool, cut_s: float) -> Iterator[Event]:
    """`alone`: the instance has no other lane. `empties`: nothing waits or holds memory there while the lane is idle."""
    pid = lane.instance + 1
    running = "running" if alone else f"running in lane {lane.lane}"
    last: dict[str, int] = {}

    def changed(ts: int, name: str, unit: str, value: int) -> Iterator[Event]:
        if last.get(unit) != value:
            last[unit] = value
            yield counter(pid, ts, name, unit, value)

    previous_end = 0
    for start_s, end_s, last_step_s, steps, decode, context, chunks, tokens, kv, waiting, group, groups, drafted, accepted in _rows(
        lane, cut_s
    ):
        start, end = microseconds(start_s), microseconds(end_s)
        if start > previous_end:
            yield from _idle(previous_end, changed, running, empties)
        previous_end = end
        part = f" in layer group {group + 1} of {groups}" if groups > 1 else ""
        what = f"decode {decode}" if not tokens else f"prefill {tokens}{part}" + (f" + decode {decode}" if decode else "")
        many = f" ({steps} steps)" if steps > 1 else ""
        args = f'"steps":{steps},"decode_requests":{decode},"context_tokens":{context}'
        args += f',"prefill_requests":{chunks},"prefill_tokens":{tokens}'
        if len(lane.ticks):
            args += f',"drafted_tokens":{drafted},"accepted_tokens":{accepted}'
        head = f'"ph":"X","pid":{pid},"tid":{tid},"ts":{start},"dur":{end - start}'
        yield start, f'{{{head},"name":"{what}{many}","args":{{{args}}}}}'
        yield from changed(start, "requests", running, decode + chunks)
        yield from changed(start, "requests", "waiting", waiting)
        yield from changed(microseconds(last_step_s), "KV cache", "blocks in use", kv)
    if len(lane.span_steps):
        yield from _idle(previous_end, changed, running, empties)


def _idle(ts: int, changed: object, running: str, empties: bool) -> Iterator[Event]:
    assert callable(changed)
    yield from changed(ts, "requests", running, 0)
    if empties:
        yield from changed(ts, "requests", "waiting", 0)
        yield from changed(ts, "KV cache", "blocks in use", 0)


def _rows(lane: LaneLog, cut_s: float) -> Iterator[tuple[float, float, float, int, int, int, int, int, int, int, int, int, int, int]]:
    """The spans that start before the cut, in pieces: start, end, start of the last step, then the counts."""
    before_last = np.maximum(lane.span_first_step + lane.span_steps - 2, 0)
    last_step_s = np.where(lane.span_steps > 1, lane.step_end_s[before_last], lane.span_start_s) if len(before_last) else lane.span_start_s
    columns = (
        lane.span_start_s, span_end_s(lane), last_step_s, lane.span_steps, lane.span_decode_requests, lane.span_context_tokens,
        lane.span_prefill_requests, lane.span_prefill_tokens, lane.span_kv_blocks, lane.span_waiting, *lane.layer_group(), *_drafted(lane),
    )  # fmt: skip
    stop = int(np.searchsorted(lane.span_start_s, cut_s))
    for begin in range(0, stop, 4096):
        yield from zip(*(column[begin : min(begin + 4096, stop)].tolist() for column in columns), strict=True)


def _drafted(lane: LaneLog) -> tuple[I64, I64]:
    """Drafted and accepted tokens of all steps of each span."""
    zeros = np.zeros_like(lane.span_steps)
    if not len(lane.ticks):
        return zeros, zeros
    drafted, accepted = (np.add.reduceat(column, lane.span_first_step) for column in lane.drafted().T)
    return drafted, accepted
