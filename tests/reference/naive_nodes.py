"""A node pool in quarters of a second: no events, no counters, everything looked up anew at every quarter.

Times of the three things that happen are kept apart, so that nothing depends on the order within one quarter: orders of instances at .25
and .75, scans at whole seconds, nodes come at .5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

QUARTER_S = 0.25


@dataclass
class NaivePool:
    """`widths[i]` devices of instance i; instance 0 is up from the beginning, the others are off. `orders`: (seconds, instance, start?)."""

    node_devices: int
    min_nodes: int
    max_nodes: int
    warm_nodes: int
    provision_s: float
    image_pull_s: float
    prepull: bool
    scan_s: float
    unneeded_s: float
    after_add_s: float
    widths: list[int]
    boot_s: float
    orders: list[tuple[float, int, bool]]
    nodes: list[dict[str, float]] = field(default_factory=list)
    stays: list[list[float]] = field(default_factory=list)
    """[instance, node, from, to]"""
    served: dict[int, list[float]] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    due: dict[int, float] = field(default_factory=dict)
    up: set[int] = field(default_factory=set)
    last_order_s: float = -math.inf

    def run(self, until_s: float) -> None:
        self._begin()
        for quarter in range(1, int(until_s / QUARTER_S) + 1):
            now = quarter * QUARTER_S
            for node in self.nodes:
                if node["ready"] == now and self.prepull:
                    node["image"] = now + self.image_pull_s
            self._place(now)
            for number, at_s in list(self.due.items()):
                if at_s <= now:
                    del self.due[number]
                    self.up.add(number)
                    self.served.setdefault(number, []).append(at_s)
            for at_s, number, starts in self.orders:
                if at_s == now:
                    self._start(number) if starts else self._stop(number, now)
            self._place(now)
            if now % self.scan_s == 0:
                self._scan(now)

    def _begin(self) -> None:
        self.up.add(0)
        for _ in range(max(1, -(-self.widths[0] // self.node_devices))):
            self.nodes.append({"ordered": 0.0, "ready": 0.0, "removed": math.inf, "image": 0.0, "seen": math.inf})
        for number in range(len(self.nodes)):
            self.stays.append([0, number, 0.0, math.inf])
        while len(self.nodes) < self.max_nodes and (len(self.nodes) < self.min_nodes or len(self._empty(0.0)) < self.warm_nodes):
            image = 0.0 if self.prepull else math.inf
            self.nodes.append({"ordered": 0.0, "ready": 0.0, "removed": math.inf, "image": image, "seen": math.inf})

    def _there(self, now: float) -> list[int]:
        return [n for n, node in enumerate(self.nodes) if node["ready"] <= now < node["removed"]]

    def _coming(self, now: float) -> list[int]:
        return [n for n, node in enumerate(self.nodes) if now < node["ready"]]

    def _free(self, node: int) -> int:
        used = [min(self.widths[int(i)], self.node_devices) for i, n, _, to_s in self.stays if n == node and to_s == math.inf]
        return self.node_devices - sum(used)

    def _empty(self, now: float) -> list[int]:
        return [n for n in (*self._there(now), *self._coming(now)) if self._free(n) == self.node_devices]

    def _start(self, number: int) -> None:
        if number not in self.up and number not in self.due and number not in self.waiting:
            self.waiting.append(number)

    def _stop(self, number: int, now: float) -> None:
        self.up.discard(number)
        self.due.pop(number, None)
        if number in self.waiting:
            self.waiting.remove(number)
        for stay in self.stays:
            if stay[0] == number and stay[3] == math.inf:
                stay[3] = now

    def _places(self, free: dict[int, int], width: int) -> list[int]:
        if width > self.node_devices:
            whole = [n for n in sorted(free) if free[n] == self.node_devices][: width // self.node_devices]
            return whole if len(whole) == width // self.node_devices else []
        fits = sorted((room, n) for n, room in free.items() if room >= width)
        return [fits[0][1]] if fits else []

    def _place(self, now: float) -> None:
        for number in list(self.waiting):
            places = self._places({n: self._free(n) for n in self._there(now)}, self.widths[number])
            if places:
                self.waiting.remove(number)
                for n in places:
                    self.nodes[n]["image"] = min(self.nodes[n]["image"], now + self.image_pull_s)
                    self.nodes[n]["seen"] = math.inf
                    self.stays.append([number, n, now, math.inf])
                self.due[number] = max(now, *(self.nodes[n]["image"] for n in places)) + self.boot_s

    def _scan(self, now: float) -> None:
        before = len(self._there(now)) + len(self._coming(now))
        free = self._needed(now)
        while len(free) < self.max_nodes and sum(room == self.node_devices for room in free.values()) < self.warm_nodes:
            free[1000 + len(free)] = self.node_devices
        for _ in range(len(free) - before):
            ready = now + self.provision_s
            self.nodes.append({"ordered": now, "ready": ready, "removed": math.inf, "image": math.inf, "seen": math.inf})
            self.last_order_s = now
        for n in self._there(now):
            if self._free(n) == self.node_devices:
                self.nodes[n]["seen"] = min(self.nodes[n]["seen"], now)
        for n in reversed(self._there(now)):
            free = self._needed(now)  # what waits needs nodes that are empty still
            empty = [one for one, room in free.items() if room == self.node_devices]
            alive = len(self._there(now)) + len(self._coming(now))
            gone_s = max(self.nodes[n]["seen"] + self.unneeded_s, self.last_order_s + self.after_add_s)
            if n in empty and gone_s <= now and alive > self.min_nodes and len(empty) > self.warm_nodes:
                self.nodes[n]["removed"] = now

    def _needed(self, now: float) -> dict[int, int]:
        """Free devices by node, when what waits has taken its own, on new nodes (from 1000 on) where the others have no room."""
        free = {n: self._free(n) for n in (*self._there(now), *self._coming(now))}
        for number in self.waiting:
            for more in range(self.max_nodes - len(free) + 1):
                more_free = free | {1000 + len(free) + k: self.node_devices for k in range(more)}
                places = self._places(more_free, self.widths[number])
                if places:
                    free = more_free
                    for n in places:
                        free[n] -= min(self.widths[number], self.node_devices)
                    break
        return free
