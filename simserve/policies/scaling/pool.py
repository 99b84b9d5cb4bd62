"""The instances that one autoscaler counts, and how their number is brought to what it wants.

As Kubernetes does with the pods of one Deployment: an instance that boots counts; one that drains is going and is not taken back; of those
that go, the ones that do not serve yet go first, then those with the highest numbers, which started last.
"""

from __future__ import annotations

from simserve.contracts import ClusterControl
from simserve.errors import PolicyError


def refuse_crossed(least: int, most: int | None) -> None:
    """Raises ValueError where an autoscaler must keep more instances than it may have."""
    if most is not None and least > most:
        raise ValueError(f"min_instances is {least} and max_instances {most}: no number of instances is both")


class Pool:
    """The instances of a role at one moment. `roles` of the cluster may change; the pool is made anew at every check."""

    def __init__(self, cluster: ClusterControl, role: str) -> None:
        self._cluster = cluster
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
        """Instances that there can be; those that drain are not among them until they have stopped."""
        return self.count + len(self.off)

    def bring_to(self, count: int) -> None:
        """Starts or drains instances until `count` serve or boot, as far as there are any to start."""
        for number in self.off[: max(0, count - self.count)]:
            self._cluster.start(number)
        going = [*reversed(self.booting), *reversed(self.ready)]
        for number in going[: max(0, self.count - count)]:
            self._cluster.drain(number)
