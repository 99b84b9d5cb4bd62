"""The instances that one autoscaler counts, and how their number is brought to what it wants.

As Kubernetes does with the pods of one Deployment: an instance that boots counts; one that drains is going and is not taken back; of those
that go, the ones that do not serve yet go first, then those with the highest numbers, which started last.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from simserve.bounds import MOST_INSTANCES
from simserve.contracts import ClusterControl, PolicyParams
from simserve.errors import PolicyError


class PoolParams(PolicyParams):
    """Which instances an autoscaler counts and scales, and between which numbers."""

    role: Literal["mixed", "prefill", "decode"] = Field("mixed", description="The instances it counts and scales.")
    min_instances: int = Field(1, ge=1, le=MOST_INSTANCES, description="Instances that always serve.")
    max_instances: int | None = Field(None, ge=1, le=MOST_INSTANCES, description="Instances at most. Default: all that `max_count` allows.")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max_instances is not None and self.min_instances > self.max_instances:
            raise ValueError(
                f"min_instances is {self.min_instances} and max_instances {self.max_instances}: no number of instances is both"
            )
        return self


class Reason(NamedTuple):
    """What a decision follows from: a metric with its value (None: not known) and its target."""

    metric: str
    value: float | None = None
    target: float | None = None


UNSTATED = Reason("")
BOUNDS = Reason("bounds")
"""The instances that there must be, or may be."""


class Pool:
    """The instances of a role at one moment. `roles` of the cluster may change; the pool is made anew at every check."""

    def __init__(self, cluster: ClusterControl, params: PoolParams) -> None:
        self._cluster, self._params, role = cluster, params, params.role
        members = [number for number, own in enumerate(cluster.roles) if own == role]
        if not members:
            found = ", ".join(sorted(set(cluster.roles)))
            raise PolicyError(
                f"an autoscaler of the instances of role '{role}' finds none; the cluster has {found} instances (invariant I10)"
            )
        states = cluster.states
        self.ready = [number for number in members if states[number] == "up"]
        self.booting = [number for number in members if states[number] == "booting"]
        self.off = [number for number in members if states[number] == "off"]

    @property
    def count(self) -> int:
        """Instances that serve or will: the replicas that a Deployment asks for."""
        return len(self.ready) + len(self.booting)

    @property
    def most(self) -> int:
        """Instances that there can be, at most the maximum; those that drain are not among them until they have stopped."""
        there = self.count + len(self.off)
        return there if self._params.max_instances is None else min(there, self._params.max_instances)

    def bring_to(self, count: int, why: Reason = UNSTATED) -> None:
        """Starts or drains instances until `count` serve or boot, as far as there are any to start. Each is a line of the scaling log."""
        self._cluster.decided(self.count, count, why.metric, why.value, why.target, self._params.role)
        for number in self.off[: max(0, count - self.count)]:
            self._cluster.start(number)
        going = [*reversed(self.booting), *reversed(self.ready)]
        for number in going[: max(0, self.count - count)]:
            self._cluster.drain(number)
