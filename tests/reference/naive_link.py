"""A link of the naive cluster: what is left of every copy is counted down whenever one enters or leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.reference.naive_cluster import NaiveCluster

FIRST = 0
"""Priority of what brings work; the end of a step of instance i has 1 + i."""

CRUMB_BYTES = 1e-6
"""A copy with less left is complete: the rest is rounding."""


@dataclass(eq=False)
class Copy:
    left_bytes: float
    done: Callable[[], None]
    entered: bool = False
    cancelled: bool = False


class NaiveLink:
    """n copies get 1/n of the bandwidth each."""

    def __init__(self, cluster: NaiveCluster, bytes_per_s: float, latency_s: float) -> None:
        self.cluster, self.bytes_per_s, self.latency_s = cluster, bytes_per_s, latency_s
        self.copies: list[Copy] = []
        self.since_s = 0.0
        self.next_end: Any = None
        self.rounded = False
        """Whether a share was not a binary fraction of the bandwidth."""

    def start(self, size_bytes: float, done: Callable[[], None]) -> Copy:
        copy = Copy(size_bytes, done)
        if self.latency_s > 0:
            self.cluster.at(self.cluster.now + self.latency_s, FIRST, lambda: self.enter(copy))
        else:
            self.enter(copy)
        return copy

    def enter(self, copy: Copy) -> None:
        if not copy.cancelled:
            self.change(lambda: self.copies.append(copy))

    def cancel(self, copy: Copy) -> None:
        copy.cancelled = True
        if copy in self.copies:
            self.change(lambda: self.copies.remove(copy))

    def change(self, what: Callable[[], None]) -> None:
        """Every copy gets its part of the time that has passed, then `what` happens, then the next end is known anew."""
        now = self.cluster.now
        for copy in self.copies:
            copy.left_bytes -= (now - self.since_s) * self.bytes_per_s / len(self.copies)
        self.since_s = now
        what()
        if self.next_end in self.cluster.agenda:
            self.cluster.agenda.remove(self.next_end)
        if self.copies:
            self.rounded |= len(self.copies).bit_count() > 1
            least = min(copy.left_bytes for copy in self.copies)
            wait_s = 0.0 if least < CRUMB_BYTES else least * len(self.copies) / self.bytes_per_s
            self.next_end = self.cluster.at(now + wait_s, FIRST, self.end)

    def end(self) -> None:
        def leave() -> None:
            least = min(copy.left_bytes for copy in self.copies)
            self.copies.remove(next(copy for copy in self.copies if copy.left_bytes < least + CRUMB_BYTES))

        before = list(self.copies)
        self.change(leave)
        (gone,) = (copy for copy in before if copy not in self.copies)
        gone.done()
