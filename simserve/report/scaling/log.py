"""The scaling log as a table: `Result.scaling` and scaling.parquet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simserve.engine.records import RunRecords
from simserve.engine.scaling_log import ScalingLog
from simserve.report.arrow import column, names_column
from simserve.report.request_file import Column

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

BEGIN, DECISION, START, DRAIN = "begin", "decision", "start", "drain"
WAITS, SERVES, CANCELLED = "waits for a node", "serves", "cancelled"
DRAINING, OFF, ORDERED, THERE, REMOVED = "draining", "off", "node ordered", "node there", "node removed"


class Row(NamedTuple):
    """Something that happened, and what there was then. Numbers are None, and names "", where they do not apply."""

    time_s: float
    event: str
    controller: str
    role: str
    metric: str
    value: float | None
    target: float | None
    actual: int | None
    desired: int | None
    instance: int | None
    node: int | None
    stage_s: float | None
    waiting: int
    starting: int
    ready: int
    draining: int
    nodes_ordered: int
    nodes: int


SCALING_COLUMNS: tuple[Column, ...] = (
    Column("time_s", "s", "when it happened"),
    Column(
        "event",
        "",
        "begin; decision: a controller's check; start, drain: what it had done to an instance; waits for a node; a stage of a start that "
        "begins (image, engine, weights, capture; boot, restart); serves, cancelled, draining, off; node ordered, there, removed",
    ),
    Column("controller", "", "which decided or acted"),
    Column("role", "", "of the instances that it scales"),
    Column("metric", "", "that the decision follows from"),
    Column("value", "", "of the metric, as the controller knew it"),
    Column("target", "", "of the metric"),
    Column("actual", "instances", "that served or started when it was decided"),
    Column("desired", "instances", "that were to"),
    Column("instance", "", "number of the instance"),
    Column("node", "", "number of the node; of an instance on several, the first"),
    Column("stage_s", "s", "seconds of the stage that begins"),
    Column("waiting", "instances", "ordered and waiting for a node, after this"),
    Column("starting", "instances", "starting on their devices"),
    Column("ready", "instances", "that take requests"),
    Column("draining", "instances", "finishing what they have"),
    Column("nodes_ordered", "nodes", "on order"),
    Column("nodes", "nodes", "there"),
)

_ORDER = (DECISION, START, DRAIN, DRAINING, OFF, CANCELLED, THERE, WAITS, "", SERVES, ORDERED, REMOVED)
"""Of events of one time; "" = the stages of starts."""


_NUMBERS = ("value", "target", "actual", "desired", "instance", "node", "stage_s")
"""Columns that an event may not have."""


class _Event(NamedTuple):
    time_s: float
    event: str
    of: Mapping[str, Any]
    instance_becomes: str = ""
    """ "" = nothing of it."""


def rows(records: RunRecords, names: tuple[str, ...]) -> list[Row]:
    """The log in order of time, up to the end of the run. `names` of the controllers."""
    log = records.scaling
    if log is None:
        return []
    events = [one for one in (*_controllers(log, names), *_starts(log), *_states(records), *_nodes(log)) if one.time_s <= records.end_s]
    events.sort(key=lambda one: (one.time_s, _ORDER.index(one.event if one.event in _ORDER else "")))
    lives = dict.fromkeys(range(len(records.instances)), "ready")
    for at_s, number, state in records.instance_states:
        if at_s == 0.0 and state == "off":
            lives[number] = "off"
    counts, there = Counter(lives.values()), Counter({THERE: sum(node.ready_s == 0.0 and node.ordered_s == 0.0 for node in log.nodes)})
    found = [_row(_Event(0.0, BEGIN, {}), counts, there)]
    for one in events:
        if one.instance_becomes:
            number = one.of["instance"]
            counts[lives[number]] -= 1
            counts[one.instance_becomes] += 1
            lives[number] = one.instance_becomes
        for event, before in ((ORDERED, ""), (THERE, ORDERED), (REMOVED, THERE)):
            if one.event == event:
                there[event] += 1
                there[before] -= 1
        found.append(_row(one, counts, there))
    return found


def _row(one: _Event, counts: Counter[str], there: Counter[str]) -> Row:
    of: dict[str, Any] = dict.fromkeys(_NUMBERS) | dict.fromkeys(("controller", "role", "metric"), "")
    return Row(
        time_s=one.time_s,
        event=one.event,
        waiting=counts["waiting"],
        starting=counts["starting"],
        ready=counts["ready"],
        draining=counts["draining"],
        nodes_ordered=there[ORDERED],
        nodes=there[THERE],
        **of | dict(one.of),
    )


def _controllers(log: ScalingLog, names: tuple[str, ...]) -> Iterator[_Event]:
    for decision in log.decisions:
        of = decision._asdict()
        yield _Event(of.pop("at_s"), DECISION, of | {"controller": names[of["controller"]]})
    for command in log.commands:
        yield _Event(command.at_s, command.what, {"controller": names[command.controller], "instance": command.instance})


def _starts(log: ScalingLog) -> Iterator[_Event]:
    first = {(stay.instance, stay.from_s): stay.node for stay in reversed(log.stays)}
    for start in log.starts:
        of = {"instance": start.instance}
        if start.placed_s is None or start.placed_s > start.ordered_s:
            yield _Event(start.ordered_s, WAITS, of, "waiting")
        if start.placed_s is not None:
            at_s, node = start.placed_s, first.get((start.instance, start.placed_s))
            for stage in start.stages:
                if start.ended_s is None or at_s <= start.ended_s:
                    yield _Event(at_s, stage.name, of | {"stage_s": stage.seconds, "node": node}, "starting")
                at_s += stage.seconds
        if start.outcome == "cancelled" and start.ended_s is not None:
            yield _Event(start.ended_s, CANCELLED, of, "off")


def _states(records: RunRecords) -> Iterator[_Event]:
    """What instances became, without what their starts say."""
    assert records.scaling is not None
    cancelled = {(start.instance, start.ended_s) for start in records.scaling.starts if start.outcome == "cancelled"}
    events = {"up": (SERVES, "ready"), "draining": (DRAINING, "draining"), "off": (OFF, "off")}
    for at_s, number, state in records.instance_states:
        if state in events and not (at_s == 0.0 and state == "off") and (number, at_s) not in cancelled:
            event, becomes = events[state]
            yield _Event(at_s, event, {"instance": number}, becomes)


def _nodes(log: ScalingLog) -> Iterator[_Event]:
    for number, node in enumerate(log.nodes):
        if node.ordered_s > 0.0:
            yield _Event(node.ordered_s, ORDERED, {"node": number})
            if node.ready_s is not None:
                yield _Event(node.ready_s, THERE, {"node": number})
        if node.removed_s is not None:
            yield _Event(node.removed_s, REMOVED, {"node": number})


def controller_names(records: RunRecords, experiment: Mapping[str, Any]) -> tuple[str, ...]:
    """The controllers by the names of the experiment; those given from Python by that of their class."""
    log = records.scaling
    if log is None:
        return ()
    stated = (experiment.get("cluster") or {}).get("controllers") or []
    return tuple(str(one["policy"]) for one in stated) if len(stated) == len(log.controllers) else log.controllers


def scaling_table(records: RunRecords, experiment: Mapping[str, Any]) -> pa.Table:
    """The log as an Arrow table: the columns SCALING_COLUMNS."""
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

    found = rows(records, controller_names(records, experiment))
    columns, fields = [], []
    for name, unit, meaning in SCALING_COLUMNS:
        values = [getattr(row, name) for row in found]
        if name in ("event", "controller", "role", "metric"):
            known = sorted(set(values) - {""})
            codes = {text: number for number, text in enumerate(known)}
            array = names_column(np.array([codes.get(value, -1) for value in values], dtype=np.int32), known)
        elif name.endswith("_s") or name in ("value", "target"):
            array = column(np.array([np.nan if value is None else value for value in values], dtype=np.float64))
        else:
            missing = np.array([value is None for value in values], dtype=np.bool_)
            array = column(np.array([value or 0 for value in values], dtype=np.int64), missing)
        columns.append(array)
        fields.append(pa.field(name, array.type, metadata={"unit": unit, "meaning": meaning}))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata={"simserve_schema": "scaling/1"}))


def write_scaling(records: RunRecords, experiment: Mapping[str, Any], path: Path) -> None:
    """Write scaling.parquet. Same run, same bytes."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

    pq.write_table(scaling_table(records, experiment), path, compression="zstd", store_schema=True)
