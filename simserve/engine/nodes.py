"""Node pools while a run goes on: which node an instance stands on, when nodes are ordered, come and go.

The rules of Kubernetes: an instance (a pod) is placed at once where there is room, on the node with the least room left that it fits on, so
that few nodes are in use; else it waits. At whole multiples of `scan_s` the cluster autoscaler orders the nodes that those which wait need
beside the nodes on order, and removes nodes that have been empty long enough. Nodes with an instance are never emptied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from simserve.engine.clock import Clock, Event
from simserve.engine.instance import Instance
from simserve.engine.provisioning import NodePoolSpec
from simserve.engine.scaling_log import NodeTimes, Stay
from simserve.engine.timers import Timers
from simserve.errors import ConfigError


class Node:
    """One node from its order on. `free` devices; `image_s` = when the image is there, inf before it is pulled."""

    __slots__ = ("empty_s", "free", "image_s", "number", "ordered_s", "ready_s", "removed_s")

    def __init__(self, number: int, devices: int, ordered_s: float) -> None:
        self.number = number
        self.free = devices
        self.ordered_s = ordered_s
        self.ready_s = self.image_s = math.inf
        self.removed_s: float | None = None
        self.empty_s = math.inf
        """The first scan that finds it empty, if nothing is placed on it before."""


class NodePool:
    """The nodes of one pool, and the instances that wait for one. `placed(instance, seconds until the image is there)` is told of each
    instance that gets its devices."""

    def __init__(self, spec: NodePoolSpec, clock: Clock, timers: Timers, placed: Callable[[Instance, float], None]) -> None:
        self.spec = spec
        self.waiting: list[Instance] = []
        """Instances that wait for room, in order."""
        self.nodes: list[Node] = []
        """All that there have ever been."""
        self.stays: list[Stay] = []
        self._there: list[Node] = []
        self._coming: list[Node] = []
        self._at: dict[int, list[int]] = {}
        self._clock, self._timers, self._placed = clock, timers, placed
        self._draw = np.random.Generator(np.random.PCG64(spec.seed))
        self._ordered_s = -math.inf
        self._scan: tuple[float, Event] | None = None

    def begin(self, instances: Sequence[Instance]) -> None:
        """The nodes that are there at time 0: `min_nodes`, or as many as these instances need, and the warm ones.

        Raises ConfigError when they do not fit in `max_nodes`.
        """
        for instance in instances:
            places = self._fit([node.free for node in self._there], instance.spec.devices)
            if not places:
                for _ in range(self.spec.nodes_of(instance.spec.devices)):
                    self._add()
                places = self._fit([node.free for node in self._there], instance.spec.devices)
            self._occupy(instance, [self._there[at] for at in places])
        if len(self._there) > self.spec.max_nodes:
            raise ConfigError(
                f"node pool '{self.spec.name}': the instances that serve from the beginning need {len(self._there)} nodes of "
                f"{self.spec.node_devices} devices, and max_nodes is {self.spec.max_nodes}"
            )
        while len(self._there) < self.spec.max_nodes and (len(self._there) < self.spec.min_nodes or self._empty() < self.spec.warm_nodes):
            self._add()
        for node in self._there:
            if self.spec.prepull or node.free < self.spec.node_devices:
                node.image_s = 0.0
            self._note_empty(node)
        self._look_again()

    def ask(self, instance: Instance) -> None:
        """An instance starts: it gets its devices now, or waits for them."""
        if not self._place(instance):
            self.waiting.append(instance)
        self._look_again()

    def release(self, instance: Instance) -> None:
        """An instance has stopped, or is not wanted any more."""
        if instance in self.waiting:
            self.waiting.remove(instance)
            return
        for at in self._at.pop(instance.index, ()):
            stay = self.stays[at]
            self.stays[at] = stay._replace(to_s=self._clock.now)
            self.nodes[stay.node].free += stay.devices
            self._note_empty(self.nodes[stay.node])
        self._place_all()
        self._look_again()

    def times(self, number: int) -> list[NodeTimes]:
        """What became of each node."""
        return [
            NodeTimes(number, node.ordered_s, node.ready_s if math.isfinite(node.ready_s) else None, node.removed_s) for node in self.nodes
        ]

    # -- placement -----------------------------------------------------------------------------------------------------------------

    def _place_all(self) -> None:
        for instance in list(self.waiting):
            if self._place(instance):
                self.waiting.remove(instance)

    def _place(self, instance: Instance) -> bool:
        places = self._fit([node.free for node in self._there], instance.spec.devices)
        if not places:
            return False
        nodes = [self._there[at] for at in places]
        self._occupy(instance, nodes)
        now = self._clock.now
        for node in nodes:
            node.image_s = min(node.image_s, now + self.spec.image_pull_s)
        self._placed(instance, max(0.0, *(node.image_s - now for node in nodes)))
        return True

    def _occupy(self, instance: Instance, nodes: Sequence[Node]) -> None:
        devices = min(instance.spec.devices, self.spec.node_devices)
        self._at[instance.index] = list(range(len(self.stays), len(self.stays) + len(nodes)))
        for node in nodes:
            node.free -= devices
            node.empty_s = math.inf
            self.stays.append(Stay(instance.index, node.number, devices, self._clock.now, None))

    def _fit(self, free: Sequence[int], devices: int) -> list[int]:
        """Places in `free` that an instance takes: the fullest that it fits on, or the first empty ones; [] where it does not fit."""
        whole = self.spec.nodes_of(devices)
        if whole > 1:
            empty = [at for at, room in enumerate(free) if room == self.spec.node_devices]
            return empty[:whole] if len(empty) >= whole else []
        fitting = [at for at, room in enumerate(free) if room >= devices]
        return [min(fitting, key=lambda at: (free[at], at))] if fitting else []

    # -- nodes ---------------------------------------------------------------------------------------------------------------------

    def _add(self) -> None:
        """A node that has been there since the beginning."""
        node = Node(len(self.nodes), self.spec.node_devices, 0.0)
        node.ready_s = 0.0
        self.nodes.append(node)
        self._there.append(node)

    def _order(self, count: int) -> None:
        """Orders nodes. Those that come at one time come together: what waits sees them all."""
        now, due = self._clock.now, dict[float, list[Node]]()
        for _ in range(count):
            node = Node(len(self.nodes), self.spec.node_devices, now)
            self.nodes.append(node)
            self._coming.append(node)
            self._ordered_s = now
            due.setdefault(now + self._provision_s(), []).append(node)
        for at_s, nodes in due.items():
            self._timers.at("start", at_s, partial(self._arrive, nodes))

    def _provision_s(self) -> float:
        """Lognormal with the stated mean and coefficient of variation."""
        spec = self.spec
        if not spec.provision_cv:
            return spec.provision_s
        variance = math.log1p(spec.provision_cv**2)
        return spec.provision_s * math.exp(math.sqrt(variance) * float(self._draw.standard_normal()) - variance / 2.0)

    def _arrive(self, nodes: Sequence[Node], event: Event) -> None:
        now = self._clock.now
        for node in nodes:
            node.ready_s = now
            if self.spec.prepull:
                node.image_s = now + self.spec.image_pull_s
            self._note_empty(node)
            self._coming.remove(node)
            self._there.append(node)
        self._there.sort(key=lambda one: one.number)
        self._place_all()
        self._look_again()

    def _note_empty(self, node: Node) -> None:
        if node.free == self.spec.node_devices:
            node.empty_s = self._next_scan_s()

    def _needed(self) -> list[int]:
        """Free devices of the nodes there, of those on order and of new ones up to `max_nodes`, when what waits has taken its own."""
        spec = self.spec
        free = [node.free for node in (*self._there, *self._coming)]
        for instance in self.waiting:
            devices, more = instance.spec.devices, 0
            places = self._fit(free, devices)
            while not places and len(free) + more < spec.max_nodes:
                more += 1
                places = self._fit([*free, *[spec.node_devices] * more], devices)
            if places:
                free += [spec.node_devices] * more
                for at in places:
                    free[at] -= min(devices, spec.node_devices)
        return free

    def _empty(self) -> int:
        """Nodes there or on order that nothing stands on or waits for."""
        return self._needed().count(self.spec.node_devices)

    # -- the autoscaler's scans ----------------------------------------------------------------------------------------------------

    def _look_again(self, not_before_s: float = 0.0) -> None:
        """A scan at the next whole multiple of `scan_s` after now, or from a time on; one that comes sooner stays."""
        at_s = self._next_scan_s(not_before_s)
        if self._needs_scan() and (self._scan is None or at_s < self._scan[0]):
            self._scan = at_s, self._timers.at("start", at_s, self._scans)

    def _next_scan_s(self, not_before_s: float = 0.0) -> float:
        scan_s, now = self.spec.scan_s, self._clock.now
        turn = max(math.floor(now / scan_s) + 1, math.ceil(not_before_s / scan_s - 1e-9))
        while turn * scan_s <= now:
            turn += 1
        return turn * scan_s

    def _needs_scan(self) -> bool:
        """Whether an order or a removal can come of a scan."""
        there = len(self._there) + len(self._coming)
        empty = self._empty()
        wanted = bool(self.waiting) or empty < self.spec.warm_nodes
        spare = empty > self.spec.warm_nodes and there > self.spec.min_nodes
        return (wanted and there < self.spec.max_nodes) or spare

    def _scans(self, event: Event) -> None:
        if self._scan is None or self._scan[1] is not event:
            return  # an earlier scan has taken its place
        self._scan = None
        self._order(self._missing())
        there = len(self._there)
        due_s = self._remove()
        if due_s is not None:
            self._look_again(due_s)
        if self.waiting and len(self._there) < there:
            self._look_again()  # there may be nodes on order instead

    def _missing(self) -> int:
        """Nodes to order: for the instances that wait, in order, what the nodes there and on order do not hold, then the warm ones."""
        spec, free = self.spec, self._needed()
        warm = min(spec.warm_nodes - free.count(spec.node_devices), spec.max_nodes - len(free))
        return len(free) + max(0, warm) - len(self._there) - len(self._coming)

    def _remove(self) -> float | None:
        """Removes what has been empty long enough, the newest first. Returns when the next may go; None where none may."""
        spec, now, free = self.spec, self._clock.now, self._needed()
        empty = [node for node, room in zip(self._there, free, strict=False) if room == spec.node_devices]
        spare = min(free.count(spec.node_devices) - spec.warm_nodes, len(self._there) + len(self._coming) - spec.min_nodes)
        due_s: float | None = None
        for node in reversed(empty):
            if spare <= 0:
                break
            goes_s = max(node.empty_s + spec.unneeded_s, self._ordered_s + spec.after_add_s)
            if goes_s <= now + 1e-9:
                node.removed_s = now
                self._there.remove(node)
                spare -= 1
            else:
                due_s = goes_s if due_s is None else min(due_s, goes_s)
        return due_s
