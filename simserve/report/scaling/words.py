"""Scaling in sentences and short tables: the terminal, the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simserve.engine.records import RunRecords
from simserve.report.rows import number, with_unit
from simserve.report.scaling.log import DECISION, ORDERED, REMOVED, SERVES, THERE, Row, controller_names, rows

HEAD = ("time", "what", "why", "instances", "ready", "starting", "waiting", "nodes")
_KEPT = 400
"""Changes of a run that its summary lists; scaling.parquet has all."""


def facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, what it came to) of a run that scales: device-hours, starts, requests that waited for them, nodes, missed SLO."""
    scaling = summary.get("scaling")
    if not scaling:
        return []
    found = [("Device-hours", _hours(summary))]
    if takes := scaling["start_s"]:
        stages = ", ".join(f"{name} {with_unit(seconds, 's')}" for name, seconds in scaling["stages_s"].items())
        rest = [f"{scaling[key]:,} {key}" for key in ("cancelled", "unfinished") if scaling[key]]
        text = f"{scaling['starts']:,}, {with_unit(takes['mean'], 's')} on average ({stages}), {with_unit(takes['max'], 's')} at most"
        found.append(("Starts", "; ".join([text, *rest])))
    if cold := scaling["cold_wait_s"]:
        text = f"{scaling['cold_requests']:,} requests, {with_unit(cold['mean'], 's')} on average, {with_unit(cold['max'], 's')} at most"
        found.append(("Waited for a cold start", text))
    if scaling["waited_while_starting_s"] > 0:
        found.append(("Waiting while instances started", f"{with_unit(scaling['waited_while_starting_s'], 's')} over all requests"))
    if nodes := scaling["nodes"]:
        text = f"{with_unit(nodes['mean'], '')} on average, {nodes['max']:,} at most"
        found.append(("Nodes paid for", f"{text}; {nodes['ordered']:,} ordered, {nodes['removed']:,} removed"))
    overall = (summary.get("slo") or {}).get("all")
    if overall and overall["judged"]:
        fraction = with_unit(overall["missed"] / overall["judged"], "%")
        found.append(("Missed the SLO", f"{overall['missed']:,} of {overall['judged']:,} requests ({fraction})"))
    return found


def _hours(summary: Mapping[str, Any]) -> str:
    paid, money = summary["paid"], summary.get("money")
    whole = paid["device_hours"]
    parts = [
        f"{with_unit(paid[f'{key}_device_hours'] / whole if whole else None, '%')} {key}" for key in ("busy", "idle", "booting")
    ]  # fmt: skip
    usd = f", {with_unit(money['usd'], 'USD')}" if money else ""
    return f"{number(whole)} paid{usd}: {', '.join(parts)}"


def with_changes(scaling: Mapping[str, Any] | None, records: RunRecords, experiment: Mapping[str, Any]) -> dict[str, Any] | None:
    """A run's `scaling` with its short log: the decisions that change something, starts that serve and nodes that come or go, as rows of
    HEAD, the first 400 (`left_out` = further ones)."""
    if scaling is None:
        return None
    log = rows(records, controller_names(records, experiment))
    found = [_line(log, at) for at, row in enumerate(log) if _changes(row)]
    return {**scaling, "log": {"head": list(HEAD), "rows": found[:_KEPT], "left_out": max(0, len(found) - _KEPT)}}


def _changes(row: Row) -> bool:
    return row.event in (SERVES, ORDERED, THERE, REMOVED) or (row.event == DECISION and row.actual != row.desired)


def _line(log: Sequence[Row], at: int) -> list[str]:
    row = log[at]
    last = at  # counts are those after all that happens at this time
    while last + 1 < len(log) and log[last + 1].time_s == row.time_s:
        last += 1
    after = log[last]
    what = row.event
    if row.instance is not None:
        what = f"instance {row.instance} {row.event}"
    elif row.node is not None:
        what = row.event.replace("node", f"node {row.node}", 1)
    elif row.event == DECISION:
        what = " ".join([row.controller, *([] if row.role in ("", "mixed") else [row.role])])
    return [
        clock(row.time_s),
        what,
        _why(row),
        f"{row.actual} to {row.desired}" if row.event == DECISION else "",
        str(after.ready),
        str(after.starting),
        str(after.waiting),
        f"{after.nodes}{f' + {after.nodes_ordered}' if after.nodes_ordered else ''}",
    ]


def _why(row: Row) -> str:
    if not row.metric:
        return ""
    name = row.metric.replace("_per_s", "/s").removesuffix("_s").replace("_", " ")
    value = "not known" if row.value is None else number(row.value)
    if row.value is None and row.target is None:
        return name
    return f"{name} {value}" if row.target is None else f"{name} {value} of {number(row.target)}"


def clock(seconds: float) -> str:
    """`42.5 s`, `12:05`, `1:02:05`, with days from two days on."""
    if seconds < 60:
        return f"{seconds:.4g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}:{rest:02d}"
    days, of_day = divmod(hours, 24)
    return f"{days} d {of_day}:{minutes:02d}:{rest:02d}" if days > 1 else f"{hours}:{minutes:02d}:{rest:02d}"
