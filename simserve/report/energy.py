"""Energy and expert reads of a run: each instance's cost model turns the totals of its steps into them, once, at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from simserve.contracts.wrapping import innermost
from simserve.engine.records import F64, LaneLog, RunRecords, Status, lanes_that_ran
from simserve.report.money import Tokens
from simserve.report.scaling.paid import spare_device_s, with_devices_s
from simserve.report.utilisation import busy_s
from simserve.report.window import Window


@runtime_checkable
class Metered(Protocol):
    """A cost model that knows what steps cost in joules (`StepCost` is one)."""

    energy_validated: bool

    def energy(self, steps: F64, tokens: F64, attended_tokens: F64, pairs: F64, busy_s: float, run_s: float) -> float | None:
        """Joules of one instance that existed for `run_s` seconds; None when its profile has no figures. Arguments as of
        `cost.energy.StepTotals`."""
        ...


@runtime_checkable
class ReadsExperts(Protocol):
    """A cost model that knows how many experts steps read (`StepCost` is one)."""

    def expert_bytes(self, steps: F64, tokens: F64) -> float | None:
        """Bytes of expert weights that one instance read; None for a model without experts."""
        ...


class Meters:
    """Energy and expert reads of the instances of a run, added up from its steps.

    costs   the cost model of each instance, in the records' order
    joules, expert_bytes  of each instance while it is busy; None where that is not known
    busy_s  of each instance
    """

    __slots__ = ("busy_s", "costs", "expert_bytes", "joules")

    def __init__(self, costs: Sequence[Any]) -> None:
        self.costs = costs
        self.busy_s = [0.0] * len(costs)
        self.joules: list[float | None] = [0.0] * len(costs)
        self.expert_bytes: list[float | None] = [0.0] * len(costs)

    def add(self, lanes: Sequence[LaneLog], busy_s: Sequence[float]) -> None:
        """Steps of the lanes, and for each instance the seconds in which they kept it busy. The power of a device is bounded over what is
        added at once."""
        ran = lanes_that_ran(lanes, len(self.costs))
        for number, cost in enumerate(self.costs):
            totals = _totals(ran[number])
            self.busy_s[number] += busy_s[number]
            self.joules[number] = _sum(self.joules[number], _joules(cost, totals, busy_s[number], busy_s[number]))
            cost = innermost(cost)
            read = cost.expert_bytes(*totals[:2]) if isinstance(cost, ReadsExperts) else None
            self.expert_bytes[number] = _sum(self.expert_bytes[number], read)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _joules(cost: Any, totals: tuple[F64, F64, F64, F64], busy_s: float, run_s: float) -> float | None:
    cost = innermost(cost)
    return cost.energy(*totals, busy_s, run_s) if isinstance(cost, Metered) else None


def run_experts(records: RunRecords, costs: Sequence[Any]) -> dict[str, Any] | None:
    """What summary.json holds under `experts`, over the whole run; None unless every instance serves a model with experts.

    The fraction of the experts that a step reads is a model of their popularity (cost/experts.py), not a measurement.
    """
    read: list[float | None] = []
    for cost, lanes in zip(costs, lanes_that_ran(records.lanes, len(costs)), strict=True):
        steps, tokens, *_ = _totals(lanes)
        cost = innermost(cost)
        read.append(cost.expert_bytes(steps, tokens) if isinstance(cost, ReadsExperts) else None)
    return expert_figures(read, int((records.requests.status == Status.COMPLETED).sum()), Tokens.of(records))


def expert_figures(read: Sequence[float | None], completed: int, tokens: Tokens) -> dict[str, Any] | None:
    """The same from the bytes that each instance read."""
    known = [each for each in read if each is not None]
    if len(known) < len(read):
        return None
    total = sum(known)
    return {
        "bytes_read": total,
        "bytes_read_per_request": total / completed if completed else None,
        "bytes_read_per_output_token": total / tokens.output if tokens.output else None,
        "validated": False,
    }


def run_energy(records: RunRecords, costs: Sequence[Any]) -> dict[str, Any] | None:
    """What summary.json holds under `energy`, over the whole run; None when the profile of an instance has no figures.

    costs  the cost model of each instance, in the records' order
    An instance draws power from when it boots until it ends; one that is off draws none. The devices of a node draw it from when the node
    is there until it is removed, whether an instance stands on them or not.
    """
    whole, exists_s = Window(0.0, records.end_s), with_devices_s(records)
    joules: list[float | None] = []
    ran = lanes_that_ran(records.lanes, len(costs))
    for number, (cost, lanes) in enumerate(zip(costs, ran, strict=True)):
        busy = busy_s(lanes, whole) if lanes else 0.0
        joules.append(_joules(cost, _totals(lanes), busy, max(exists_s[number], busy)))
    return energy_figures(records, costs, joules, Tokens.of(records))


def metered_energy(records: RunRecords, meters: Meters, tokens: Tokens) -> dict[str, Any] | None:
    """The same of a run whose steps were added up; the records are those of the run without its steps."""
    exists_s, nothing = with_devices_s(records), _totals([])
    idle_s = [max(exists - busy, 0.0) for exists, busy in zip(exists_s, meters.busy_s, strict=True)]
    joules = [_sum(busy, _joules(cost, nothing, 0.0, idle)) for busy, cost, idle in zip(meters.joules, meters.costs, idle_s, strict=True)]
    return energy_figures(records, meters.costs, joules, tokens)


def energy_figures(records: RunRecords, costs: Sequence[Any], joules: Sequence[float | None], tokens: Tokens) -> dict[str, Any] | None:
    """The same from the joules of each instance."""
    rows: list[dict[str, Any]] = []
    for info, energy_j in zip(records.instances, joules, strict=True):
        if energy_j is None:
            return None
        mean_w = energy_j / records.end_s if records.end_s else None
        rows.append({"name": info.name, "energy_j": energy_j, "mean_power_w": mean_w})
    total = float(sum(row["energy_j"] for row in rows)) + _spare_j(records, costs)
    return {
        "energy_j": total,
        "joules_per_output_token": total / tokens.output if tokens.output else None,
        "joules_per_token": total / sum(tokens) if sum(tokens) else None,
        "mean_power_w": total / records.end_s if records.end_s else None,
        "validated": all(innermost(cost).energy_validated for cost in costs),
        "instances": rows,
    }


def _spare_j(records: RunRecords, costs: Sequence[Any]) -> float:
    """Of devices of nodes on which no instance stands: those of an instance that does nothing."""
    joules = 0.0
    for pool, device_s in enumerate(spare_device_s(records)):
        assert records.scaling is not None
        number = records.scaling.instance_pools.index(pool)
        cost = innermost(costs[number])
        idle = cost.energy(*_totals([]), 0.0, device_s / records.instances[number].devices) if isinstance(cost, Metered) else None
        joules += idle or 0.0
    return joules


def _totals(lanes: Sequence[LaneLog]) -> tuple[F64, F64, F64, F64]:
    """Steps, tokens of one, keys read by one, and pairs of all, for each span of the lanes.

    Where chunks pass through one of g groups of layers, a g-th of the step has them and the rest has the decodes only.
    """
    columns: list[tuple[F64, F64, F64, F64]] = []
    for lane in lanes:
        steps, decodes, context = (a.astype(np.float64) for a in (lane.span_steps, lane.span_decode_requests, lane.span_context_tokens))
        slices, prompt, pairs = (column.astype(np.float64) for column in lane.sliced())
        decoded = steps * context + decodes * steps * (steps - 1.0) / 2.0
        attended = decoded
        if len(lane.ticks):  # queries of drafted tokens read the same keys together
            of_group = lane.decoded()
            decodes, attended, decoded = of_group.tokens / steps, of_group.attended, of_group.pairs
        # A chunk reads its keys once: as many as its mean query attends.
        chunk_keys = slices * np.divide(pairs, prompt, out=np.zeros(len(prompt)), where=prompt > 0)
        part = 1.0 / lane.layer_group()[1]
        columns.append((steps * part, decodes + prompt, attended / steps + chunk_keys, (decoded + pairs) * part))
        rest = part < 1.0
        left = (1.0 - part)[rest]
        columns.append((left, decodes[rest], attended[rest], decoded[rest] * left))
    if not columns:
        return np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0)
    a, b, c, d = (np.concatenate(column) for column in zip(*columns, strict=True))
    return a, b, c, d
