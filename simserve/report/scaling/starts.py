"""How instances started in a run, how long requests waited for them, and the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simserve.engine.records import F64, RunRecords
from simserve.engine.scaling_log import ScalingLog, Start
from simserve.report.cluster import instance_roles
from simserve.report.scaling.paid import between

NODE = "node"
"""The stage in which a start waits for a node."""


def scaling_summary(records: RunRecords, experiment: Mapping[str, Any]) -> dict[str, Any] | None:
    """What summary.json holds under `scaling`, over the whole run; None of one in which nothing scales.

    decisions, changes     checks of controllers, and those that wanted another number of instances than there were
    starts                 instances that began to serve; cancelled: stopped before; unfinished: still starting at the end
    start_s                mean and max from the order of those that served until they did; stages_s: of that, mean seconds in each stage
    cold_requests          requests that were released while no instance took any, and waited for one to start
    cold_wait_s            mean and max of these waits, up to when an instance served
    waited_while_starting_s  request-seconds from release to first step, while an instance was starting
    nodes                  mean and max of the nodes paid for, how many were ordered and removed
    """
    log = records.scaling
    if log is None:
        return None
    end_s = records.end_s
    served = [start for start in log.starts if _over(start, end_s) == "served"]
    cold = cold_waits_s(records, experiment)
    takes = [start.ended_s - start.ordered_s for start in served if start.ended_s is not None]
    return {
        "decisions": len(log.decisions),
        "changes": sum(decision.desired != decision.actual for decision in log.decisions),
        "starts": len(served),
        "cancelled": sum(_over(start, end_s) == "cancelled" for start in log.starts),
        "unfinished": sum(not _over(start, end_s) for start in log.starts),
        "start_s": _mean_max(takes),
        "stages_s": _stages(served),
        "cold_requests": len(cold),
        "cold_wait_s": _mean_max(cold),
        "waited_while_starting_s": waited_while_starting_s(records),
        "nodes": _nodes(log, end_s) if log.pools else None,
    }


def _over(start: Start, end_s: float) -> str:
    """What had become of a start at the end of the run."""
    return start.outcome if start.ended_s is not None and start.ended_s <= end_s else ""


def _mean_max(values: Sequence[float] | F64) -> dict[str, float] | None:
    return {"mean": float(np.mean(values)), "max": float(np.max(values))} if len(values) else None


def _stages(served: Sequence[Start]) -> dict[str, float]:
    total: dict[str, float] = {}
    for start in sorted(served, key=lambda one: -len(one.stages)):  # the longest has them all, in order
        waited = 0.0 if start.placed_s is None else start.placed_s - start.ordered_s
        for name, seconds in ((NODE, waited), *start.stages):
            total[name] = total.get(name, 0.0) + seconds
    return {name: seconds / len(served) for name, seconds in total.items() if seconds}


def cold_waits_s(records: RunRecords, experiment: Mapping[str, Any]) -> F64:
    """Seconds that requests waited until an instance served, of those released while none took requests; without those released when
    one was to serve in the same instant."""
    closed = _closed(records, experiment)
    released, waits = records.requests.released_s, []
    for from_s, to_s in closed:
        inside = released[(released >= from_s) & (released < to_s)]
        waits.append(to_s - inside)
    return np.concatenate(waits) if waits else np.empty(0)


def _closed(records: RunRecords, experiment: Mapping[str, Any]) -> list[tuple[float, float]]:
    """When no instance took requests that came: from, to (the end of the run, if none did any more)."""
    roles = instance_roles(experiment, len(records.instances))
    entries = {number for number, role in enumerate(roles) if role != "decode"}
    opened, found, since_s = set(entries), [], None
    for at_s, number, state in (*records.instance_states, (records.end_s, -1, "")):
        at_s = min(at_s, records.end_s)
        if number in entries:
            (opened.add if state == "up" else opened.discard)(number)
        if since_s is not None and (opened or number < 0):
            found.append((since_s, at_s))
            since_s = None
        elif since_s is None and not opened and number >= 0:
            since_s = at_s
    return [(from_s, to_s) for from_s, to_s in found if to_s > from_s]


def waited_while_starting_s(records: RunRecords) -> float:
    """Request-seconds between release and first step (or the request's end) in which at least one instance was starting."""
    log, r = records.scaling, records.requests
    if log is None or not log.starts:
        return 0.0
    times, starting = _starting(log, records.end_s)
    known = ~np.isnan(r.released_s)
    until = np.where(np.isnan(r.scheduled_s), np.where(np.isnan(r.finish_s), records.end_s, r.finish_s), r.scheduled_s)[known]
    return float((np.interp(until, times, starting) - np.interp(r.released_s[known], times, starting)).sum())


def _starting(log: ScalingLog, end_s: float) -> tuple[F64, F64]:
    """(times, seconds until then in which an instance was starting), both rising."""
    times, total, seconds = [0.0], [0.0], 0.0
    until_s = 0.0
    for start in log.starts:  # in order of their orders
        begin, stop = max(start.ordered_s, until_s), end_s if start.ended_s is None else start.ended_s
        if stop > begin:
            times += [begin, stop]
            total += [seconds, seconds + stop - begin]
            seconds, until_s = total[-1], stop
    return np.array([*times, max(end_s, until_s) + 1.0]), np.array([*total, seconds])


def _nodes(log: ScalingLog, end_s: float) -> dict[str, Any]:
    node_s = sum(between(node.ordered_s, node.removed_s, end_s) for node in log.nodes)
    changes = sorted(
        [(node.ordered_s, 1) for node in log.nodes if node.ordered_s <= end_s]
        + [(node.removed_s, -1) for node in log.nodes if node.removed_s is not None and node.removed_s <= end_s]
    )
    return {
        "mean": node_s / end_s if end_s else None,
        "max": int(np.max(np.cumsum([change for _, change in changes]), initial=0)),
        "ordered": sum(0.0 < node.ordered_s <= end_s for node in log.nodes),
        "removed": sum(node.removed_s is not None and node.removed_s <= end_s for node in log.nodes),
    }
