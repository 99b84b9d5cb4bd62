"""What is kept of scaling while a run goes on: what controllers decided, how instances started, on which nodes they stood."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from simserve.engine.instance_state import InstanceState
from simserve.engine.provisioning import NodePoolSpec, Stage


class Decision(NamedTuple):
    """What a controller found at a check. `controller` is its number in the experiment, `role` the instances that it scales.

    metric, value, target  what it looked at, None where it knew nothing
    actual, desired  instances that served or started then, and that it wants to
    """

    at_s: float
    controller: int
    role: str
    metric: str
    value: float | None
    target: float | None
    actual: int
    desired: int


class Command(NamedTuple):
    """What a controller had done: "start" or "drain" of an instance."""

    at_s: float
    controller: int
    instance: int
    what: str


class Start(NamedTuple):
    """One start of an instance. Times are seconds, None for what did not happen.

    placed_s   when it had its devices
    stages     what follows then, in order
    ended_s    when it served, or was stopped before; outcome: "served", "cancelled", or "" while it goes on
    """

    instance: int
    ordered_s: float
    placed_s: float | None
    stages: tuple[Stage, ...]
    ended_s: float | None
    outcome: str


class NodeTimes(NamedTuple):
    """One node: the number of its pool, when it was ordered, was there and was removed; None for what did not happen."""

    pool: int
    ordered_s: float
    ready_s: float | None
    removed_s: float | None


class Stay(NamedTuple):
    """An instance on a node: devices of it that it occupied, from when to when (None = to the end)."""

    instance: int
    node: int
    devices: int
    from_s: float
    to_s: float | None


@dataclass(frozen=True, slots=True)
class ScalingLog:
    """The scaling of a run, each list in order of time. `controllers` are the names of their classes; without node pools there are no
    nodes and no stays."""

    controllers: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    commands: tuple[Command, ...] = ()
    starts: tuple[Start, ...] = ()
    pools: tuple[NodePoolSpec, ...] = ()
    instance_pools: tuple[int, ...] = ()
    """Of each instance, the number of its pool."""
    nodes: tuple[NodeTimes, ...] = ()
    stays: tuple[Stay, ...] = ()


class ScalingNotes:
    """The log while it is written."""

    __slots__ = ("_going", "commands", "controllers", "decisions", "starts")

    def __init__(self, controllers: tuple[str, ...] = ()) -> None:
        self.controllers = controllers
        self.decisions: list[Decision] = []
        self.commands: list[Command] = []
        self.starts: list[Start] = []
        self._going: dict[int, int] = {}

    def ordered(self, instance: int, now: float) -> None:
        """An instance begins to start."""
        self._going[instance] = len(self.starts)
        self.starts.append(Start(instance, now, None, (), None, ""))

    def placed(self, instance: int, now: float, stages: tuple[Stage, ...]) -> None:
        """It has its devices; what follows is known."""
        at = self._going[instance]
        self.starts[at] = self.starts[at]._replace(placed_s=now, stages=stages)

    def became(self, instance: int, state: InstanceState, now: float) -> None:
        """An instance is in another state: a start is over unless it still boots."""
        if state is not InstanceState.BOOTING and (at := self._going.pop(instance, None)) is not None:
            outcome = "served" if state is InstanceState.UP else "cancelled"
            self.starts[at] = self.starts[at]._replace(ended_s=now, outcome=outcome)

    def log(self) -> ScalingLog | None:
        """What is kept; None of a run in which nothing scales."""
        found = ScalingLog(self.controllers, tuple(self.decisions), tuple(self.commands), tuple(self.starts))
        return found if found.decisions or found.commands or found.starts else None


def with_nodes(
    log: ScalingLog | None,
    pools: tuple[NodePoolSpec, ...],
    instance_pools: tuple[int, ...],
    nodes: tuple[NodeTimes, ...],
    stays: tuple[Stay, ...],
) -> ScalingLog | None:
    """The log with what became of the nodes."""
    return replace(log or ScalingLog(), pools=pools, instance_pools=instance_pools, nodes=nodes, stays=stays) if pools else log
