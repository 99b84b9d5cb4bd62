"""What happens to the instances of the timeline: a track of the states of those that change, and live migrations."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from simserve.engine.records import RunRecords
from simserve.report.perfetto.steps import Event, life_thread, microseconds


def life_events(records: RunRecords, cut_s: float) -> Iterator[Event]:
    """A slice for each state that an instance enters after the beginning (up, draining, booting, off), until the next."""
    for number in sorted({instance for _, instance, _ in records.instance_states}):
        own = [(time_s, state) for time_s, instance, state in records.instance_states if instance == number]
        until = [*(time_s for time_s, _ in own[1:]), records.end_s]
        for (begin_s, state), end_s in zip(own, until, strict=True):
            if begin_s < cut_s:
                begin, end = microseconds(begin_s), microseconds(max(begin_s, end_s))
                head = f'"ph":"X","pid":{number + 1},"tid":{life_thread(records, number)},"ts":{begin},"dur":{end - begin}'
                yield begin, f'{{{head},"name":{json.dumps(state)},"args":{{}}}}'


def migration_events(records: RunRecords, cut_s: float) -> Iterator[Event]:
    """On the source, a slice for each live migration that succeeded, in it the time without decoding; an instant for one that did not."""
    moves = records.moves
    if moves is None:
        return
    names = [info.name for info in records.instances]
    for k in range(len(moves.request)):
        start_s, stop_s, landed_s = (float(column[k]) for column in (moves.start_s, moves.stop_s, moves.landed_s))
        if start_s >= cut_s:
            continue
        pid = int(moves.source[k]) + 1
        facts: dict[str, Any] = {"request": int(moves.request[k]), "to": names[int(moves.destination[k])], "stages": int(moves.stages[k])}
        start = microseconds(start_s)
        if math.isnan(landed_s):
            facts["why not"] = moves.outcomes[int(moves.outcome[k])]
            yield start, json.dumps({"ph": "i", "s": "p", "pid": pid, "ts": start, "name": "migration given up", "args": facts})
            continue
        head = f'"cat":"migration","id2":{{"local":"{k}"}},"pid":{pid}'
        end = microseconds(landed_s)
        yield start, f'{{"ph":"b",{head},"name":"migration","ts":{start},"args":{json.dumps(facts)}}}'
        if not math.isnan(stop_s):
            stop = microseconds(stop_s)
            yield stop, f'{{"ph":"b",{head},"name":"not decoding","ts":{stop}}}'
            yield end, f'{{"ph":"e",{head},"name":"not decoding","ts":{end}}}'
        yield end, f'{{"ph":"e",{head},"name":"migration","ts":{end}}}'
