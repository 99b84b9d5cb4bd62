"""I11, for `--check`: devices of nodes are conserved. Recounted from the log of a run, without what the pools themselves keep."""

from __future__ import annotations

import math
from collections.abc import Iterator

from simserve.engine.records import RunRecords
from simserve.engine.scaling_log import NodeTimes, ScalingLog
from simserve.errors import InvariantError


def check_scaling(records: RunRecords) -> None:
    """Starts end, or wait for what the pool cannot give; no node holds more than it has, nor anything while it is not there; instances
    that serve stand on all their devices; what is paid for is never less than what is used. Raises InvariantError."""
    log = records.scaling
    if log is None:
        return
    for start in log.starts:
        _require(start.outcome != "served" or start.placed_s is not None, f"instance {start.instance} serves without its devices")
        if start.placed_s is not None and start.outcome == "served":
            takes_s = sum(stage.seconds for stage in start.stages)
            _require(
                math.isclose(start.ended_s - start.placed_s, takes_s, rel_tol=1e-9, abs_tol=1e-6) if start.ended_s is not None else False,
                f"instance {start.instance} serves {takes_s:g} s after it got its devices, at {start.placed_s:g} s: found {start.ended_s}",
            )
    if log.pools:
        _nodes(log)
        _instances(log, records)
        _waiting(log, records.end_s)


def _nodes(log: ScalingLog) -> None:
    changes: dict[int, list[tuple[float, int, int]]] = {number: [] for number in range(len(log.nodes))}
    for stay in log.stays:
        node = log.nodes[stay.node]
        there = node.ready_s is not None and node.ready_s <= stay.from_s
        gone_s = math.inf if node.removed_s is None else node.removed_s
        _require(there, f"instance {stay.instance} stands on node {stay.node} at {stay.from_s:g} s, before it is there")
        until_s = math.inf if stay.to_s is None else stay.to_s
        _require(until_s <= gone_s, f"node {stay.node} is removed at {gone_s:g} s under instance {stay.instance}")
        changes[stay.node] += [(stay.from_s, 1, stay.devices), (until_s, 0, -stay.devices)]
    for number, of_node in changes.items():
        used, devices = 0, log.pools[log.nodes[number].pool].node_devices
        for at_s, _, change in sorted(of_node):
            used += change
            _require(0 <= used <= devices, f"{used} devices of node {number}, which has {devices}, are used at {at_s:g} s")
    for at_s, pool, count in _counts(log.nodes):
        spec = log.pools[pool]
        _require(count <= spec.max_nodes, f"pool '{spec.name}' has {count} nodes at {at_s:g} s, above max_nodes {spec.max_nodes}")
        _require(count >= spec.min_nodes, f"pool '{spec.name}' has {count} nodes at {at_s:g} s, below min_nodes {spec.min_nodes}")


def _counts(nodes: tuple[NodeTimes, ...]) -> Iterator[tuple[float, int, int]]:
    """(seconds, pool, nodes there or on order) after each change."""
    changes = sorted(
        [(node.ordered_s, 1, node.pool) for node in nodes]
        + [(node.removed_s, -1, node.pool) for node in nodes if node.removed_s is not None]
    )
    counts: dict[int, int] = {}
    for at, (at_s, change, pool) in enumerate(changes):
        counts[pool] = counts.get(pool, 0) + change
        if at + 1 == len(changes) or changes[at + 1][0] > at_s:
            yield from ((at_s, number, count) for number, count in counts.items())


def _instances(log: ScalingLog, records: RunRecords) -> None:
    """Every instance that is up or drains has all its devices, and one that is off has none."""
    held: dict[int, list[tuple[float, float, int]]] = {}
    for stay in log.stays:
        held.setdefault(stay.instance, []).append((stay.from_s, math.inf if stay.to_s is None else stay.to_s, stay.devices))
    states: dict[int, list[tuple[float, str]]] = {number: [(0.0, "up")] for number in range(len(records.instances))}
    for at_s, number, state in records.instance_states:
        states[number].append((at_s, state))
    for number, of_instance in states.items():
        for (from_s, state), (to_s, _) in zip(of_instance, [*of_instance[1:], (math.inf, "")], strict=True):
            if state in ("up", "draining") and to_s > from_s:
                used = sum(devices for begin, end, devices in held.get(number, []) if begin <= from_s and end >= to_s)
                own = records.instances[number].devices
                _require(used == own, f"instance {number} serves from {from_s:g} s on {used} devices of nodes, and has {own}")


def _waiting(log: ScalingLog, end_s: float) -> None:
    """What waits for a node at the end waits for one on order, for the next scan, or because there may be no more."""
    last = [count for _, _, count in _counts(log.nodes)]
    for start in log.starts:
        if start.outcome or start.placed_s is not None:
            continue
        coming = any(node.ready_s is None or node.ready_s > start.ordered_s for node in log.nodes)
        full = any(count >= spec.max_nodes for spec in log.pools for count in last)
        due = any(end_s <= start.ordered_s + spec.scan_s for spec in log.pools)
        _require(coming or full or due, f"instance {start.instance} waits for a node since {start.ordered_s:g} s, and none is ordered")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantError(f"invariant I11 is broken: {message}")
