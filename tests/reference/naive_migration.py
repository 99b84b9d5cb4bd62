"""Live migration in the naive cluster: stated requests move to stated instances while they decode.

Written from docs/invariants.md, "The rules of a cluster", live migration; shares no code with `simserve.engine`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Any

from tests.reference.naive_link import FIRST, Copy

if TYPE_CHECKING:
    from tests.reference.naive_cluster import NaiveCluster
    from tests.reference.naive_instance import ClusterReq, NaiveInstance

Order = tuple[int, int, int]
"""At a multiple of the interval, the request of a row is to move to an instance."""

Entry = tuple[int, int, int, float, float, float, int, str]
"""Row, source, destination; when the move was decided, when the request stopped, when it landed; copies; why it was given up."""


@dataclass(frozen=True)
class Plan:
    """Stated moves. All instances but the destination are asked for the request, in order, until one has it to move."""

    orders: tuple[Order, ...]
    interval_s: float
    last_stage_blocks: int
    max_stages: int


@dataclass(eq=False)
class Migration:
    """One request on its way: `table` = blocks of its table that are held at the destination, `copied` = those that have been copied."""

    r: ClusterReq
    source: NaiveInstance
    destination: NaiveInstance
    start_s: float
    stop_s: float = math.nan
    table: int = 0
    last: bool = False
    copied: int = 0
    stages: int = 0
    copy: Copy | None = None


class NaiveMigrations:
    """Moves under way, a timer that decides on them, and a log of those that are over."""

    def __init__(self, cluster: NaiveCluster, plan: Plan | None) -> None:
        self.cluster, self.plan = cluster, plan
        self.under_way: list[Migration] = []
        self.log: list[Entry] = []
        self.answers: dict[int, list[str]] = {}
        self.moved_tokens, self.asleep, self.turn = 0, True, 0

    # the timer
    def wake(self) -> None:
        """A request is being routed: from now on the timer ticks at multiples of its interval, until all have ended."""
        if self.plan is not None and self.asleep:
            self.asleep = False
            self.turn = floor(self.cluster.now / self.plan.interval_s)
            self.next_tick()

    def next_tick(self) -> None:
        assert self.plan is not None
        self.turn += 1
        while self.turn * self.plan.interval_s <= self.cluster.now:
            self.turn += 1
        assert self.turn < 10**5, "requests do not end"
        self.cluster.at(self.turn * self.plan.interval_s, FIRST, self.tick)

    def tick(self) -> None:
        if all(r.status for r in self.cluster.reqs):
            self.asleep = True
            return
        assert self.plan is not None
        for number, (turn, row, destination) in enumerate(self.plan.orders):
            if turn == self.turn:
                self.answers[number] = self.order(row, destination)
        self.next_tick()

    def order(self, row: int, destination: int) -> list[str]:
        answers = []
        for source in range(len(self.cluster.instances)):
            if source != destination:
                answers.append(self.begin(row, source, destination))
                if not answers[-1]:
                    break
        return answers

    # a move
    def begin(self, row: int, source_number: int, destination_number: int) -> str:
        source, destination = self.cluster.instances[source_number], self.cluster.instances[destination_number]
        r = self.cluster.reqs[row]
        if not destination.up or source.role != destination.role or source.role == "prefill":
            return "the destination does not take such requests"
        if r not in source.running or r.prefilling:
            return "it does not decode there"
        if any(m.r is r for m in self.under_way):
            return "it is on its way already"
        m = Migration(r, source, destination, self.cluster.now)
        self.under_way.append(m)
        r.ahead = destination_number
        self.between_steps(destination, lambda: self.next_stage(m))
        return ""

    def between_steps(self, i: NaiveInstance, action: Callable[[], None]) -> None:
        if i.busy:
            i.between.append(action)
        else:
            action()

    def next_stage(self, m: Migration) -> None:
        """Between two steps of the destination."""
        if m not in self.under_way:
            return
        assert self.plan is not None
        i, r = m.destination, m.r
        last = i.table(r.computed + 1) - m.copied <= self.plan.last_stage_blocks
        if not last and m.stages >= self.plan.max_stages:
            self.abort(m, "the copy did not catch up")
            return
        drafted = r.drafted if m.source.busy and r in m.source.decodes else 0
        table = i.table(min(r.computed + 2 + drafted, i.limit)) if last else r.computed // i.B
        if i.free - (i.arriving(table, last) - i.arriving(m.table, False)) < i.W:
            self.abort(m, "the destination is full")
            return
        if m not in i.coming:
            i.coming.append(m)
        m.table, m.last = table, last
        i.trim()
        m.stages += 1
        if last:
            self.between_steps(m.source, lambda: self.stop(m))
        else:
            self.start_copy(m, (table - m.copied) * i.B, 0.0, lambda: self.stage_copied(m))

    def start_copy(self, m: Migration, tokens: int, more_bytes: float, done: Callable[[], None]) -> None:
        link = self.cluster.links[m.source.number]
        assert link is not None
        self.moved_tokens += tokens
        m.copy = link.start(tokens * self.cluster.kv_bytes_per_token + more_bytes, done)

    def stage_copied(self, m: Migration) -> None:
        m.copied = m.table
        self.between_steps(m.destination, lambda: self.next_stage(m))

    def stop(self, m: Migration) -> None:
        """Between two steps of the source."""
        if m not in self.under_way:
            return
        m.source.running.remove(m.r)
        m.source.stopped.append(m.r)
        m.stop_s, tokens = self.cluster.now, m.r.computed
        beside = sum(min(tokens, kept) * each for kept, each in self.cluster.windows) + self.cluster.state_bytes
        self.start_copy(m, tokens - m.copied * m.source.B, beside, lambda: self.arrived(m))

    def arrived(self, m: Migration) -> None:
        r, source, destination = m.r, m.source, m.destination
        self.over(m, "", self.cluster.now)
        source.release(r)
        source.stopped.remove(r)
        self.cluster.wake(source)
        destination.coming.remove(m)
        r.held, r.place = m.table, destination.number
        destination.landed.append(r)
        self.cluster.wake(destination)

    # ways out
    def abort(self, m: Migration, reason: str) -> None:
        """The request goes on at its source; if it has stopped there, it waits for a sequence slot."""
        self.over(m, reason, math.nan)
        if m.copy is not None:
            link: Any = self.cluster.links[m.source.number]
            link.cancel(m.copy)
        if m in m.destination.coming:
            m.destination.coming.remove(m)
            self.cluster.wake(m.destination)
        if m.r in m.source.stopped:
            m.source.stopped.remove(m.r)
            m.source.landed.append(m.r)
            self.cluster.wake(m.source)

    def over(self, m: Migration, reason: str, landed_s: float) -> None:
        self.under_way.remove(m)
        m.r.ahead = -1
        self.log.append((m.r.row, m.source.number, m.destination.number, m.start_s, m.stop_s, landed_s, m.stages, reason))

    def leaves(self, r: ClusterReq, reason: str) -> None:
        """A request ends, or is preempted."""
        for m in self.under_way:
            if m.r is r:
                self.abort(m, reason)
                return

    def gives_up(self, r: ClusterReq) -> None:
        """The client of a request gives up: one that has stopped is back at its source first."""
        if any(r in i.stopped for i in self.cluster.instances):
            self.leaves(r, "the request ended")

    def dies(self, i: NaiveInstance) -> None:
        for m in list(self.under_way):
            if i in (m.source, m.destination):
                self.abort(m, "an instance died")
