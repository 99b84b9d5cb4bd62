"""Device-hours that a run pays for, and what they were used for.

Without node pools an instance is paid for from when it boots until it ends. With them a node is, from its order to its removal, whatever
stands on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simserve.engine.records import RunRecords, lanes_that_ran
from simserve.engine.scaling_log import NodeTimes, Start
from simserve.report.cluster import COSTS, seconds_in
from simserve.report.utilisation import busy_s
from simserve.report.window import Window

HOUR_S = 3600.0


def between(from_s: float, to_s: float | None, end_s: float) -> float:
    """Seconds from one time to another (None = later than the end), as far as they lie before the end."""
    return max(0.0, (end_s if to_s is None else min(to_s, end_s)) - min(from_s, end_s))


def with_devices_s(records: RunRecords) -> list[float]:
    """For each instance the seconds in which it has devices: booting, serving or draining; with node pools, standing on nodes."""
    log = records.scaling
    if log is None or not log.pools:
        return seconds_in(records, COSTS)
    found = [0.0] * len(records.instances)
    for stay in log.stays:
        seconds = between(stay.from_s, stay.to_s, records.end_s)
        found[stay.instance] += seconds * stay.devices / records.instances[stay.instance].devices
    return found


def spare_device_s(records: RunRecords) -> list[float]:
    """For each node pool the device-seconds of its nodes, from when they are there, on which no instance stands."""
    log = records.scaling
    if log is None:
        return []
    spare = [0.0] * len(log.pools)
    for node in log.nodes:
        if node.ready_s is not None:
            spare[node.pool] += log.pools[node.pool].node_devices * between(node.ready_s, node.removed_s, records.end_s)
    for stay in log.stays:
        spare[log.nodes[stay.node].pool] -= stay.devices * between(stay.from_s, stay.to_s, records.end_s)
    return [max(0.0, seconds) for seconds in spare]


def paid_device_s(records: RunRecords) -> list[tuple[int, float]]:
    """(an instance with such devices, device-seconds paid) for each instance, or for each node pool."""
    log = records.scaling
    if log is None or not log.pools:
        return [(number, one.devices * s) for number, (one, s) in enumerate(zip(records.instances, with_devices_s(records), strict=True))]
    paid = [0.0] * len(log.pools)
    for node in log.nodes:
        paid[node.pool] += log.pools[node.pool].node_devices * between(node.ordered_s, node.removed_s, records.end_s)
    return [(log.instance_pools.index(pool), seconds) for pool, seconds in enumerate(paid)]


def paid_summary(records: RunRecords, busy_s_of: Sequence[float] | None = None) -> dict[str, Any]:
    """What summary.json holds under `paid`, over the whole run. `busy_s_of`: seconds in which each instance ran a step, of a run whose
    steps the records do not have.

    device_hours          paid: sum over instances of devices x hours with devices, or over nodes of devices x hours from order to removal
    busy_device_hours     of them, in which the device's instance ran a step
    booting_device_hours  in which its instance started, or its node was on order
    idle_device_hours     the rest: instances without work, and nodes without an instance
    """
    whole = Window(0.0, records.end_s)
    paid_s = sum(seconds for _, seconds in paid_device_s(records))
    busy, ran = 0.0, lanes_that_ran(records.lanes, len(records.instances))
    for number, info in enumerate(records.instances):
        if busy_s_of is not None:
            busy += info.devices * busy_s_of[number]
            continue
        busy += info.devices * busy_s(ran[number], whole) if ran[number] else 0.0
    booting = _booting_device_s(records)
    return {
        "device_hours": paid_s / HOUR_S,
        "busy_device_hours": busy / HOUR_S,
        "booting_device_hours": booting / HOUR_S,
        "idle_device_hours": max(0.0, paid_s - busy - booting) / HOUR_S,
    }


def _booting_device_s(records: RunRecords) -> float:
    log, end_s = records.scaling, records.end_s
    if log is None:
        return sum(info.devices * s for info, s in zip(records.instances, seconds_in(records, ("booting",)), strict=True))
    starting = sum(records.instances[start.instance].devices * _with_devices_s(start, end_s) for start in log.starts)
    return starting + _coming_device_s(log.nodes, [pool.node_devices for pool in log.pools], end_s)


def _with_devices_s(start: Start, end_s: float) -> float:
    return 0.0 if start.placed_s is None else between(start.placed_s, start.ended_s, end_s)


def _coming_device_s(nodes: Sequence[NodeTimes], devices: Sequence[int], end_s: float) -> float:
    return sum(devices[node.pool] * between(node.ordered_s, node.ready_s, end_s) for node in nodes)
