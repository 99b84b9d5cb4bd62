"""One instance of the naive cluster: the scheduler parts of `Naive`, prompts found again by content, requests that come from elsewhere.

Memory is counted afresh whenever it is asked for. See docs/invariants.md, "The rules of a cluster".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from simserve.contracts import CostModel
from simserve.workload.requests import Workload
from tests.reference.naive import Naive, Req

if TYPE_CHECKING:
    from tests.reference.naive_cluster import NaiveCluster
    from tests.reference.naive_migration import Migration


Key = tuple[str, str, int]


@dataclass(eq=False)
class ClusterReq(Req):
    """`ids` = what it contains, as (adapter, salt, id of the run); `place` = instance it counts at, -1 = none; `ahead` = decode instance
    that expects it while it prefills; `pinned` = contents it shares; `offered` = leading ones it need not offer; `cached`, `reread` =
    found at its first admission, at later ones; `leaves` = its client has given up, and it leaves with the step in progress there."""

    ids: list[Key] = field(default_factory=list)
    place: int = -1
    ahead: int = -1
    queued_s: float = math.nan
    pinned: list[Key] = field(default_factory=list)
    offered: int = 0
    cached: int = 0
    reread: int = 0
    estimate: int = 0
    served_by: int = -1
    leaves: int = -1


class NaiveInstance(Naive):
    """`run_tokens` = tokens that one content id stands for, 0 = nothing is found again; `keeps_outputs` = of generated tokens too."""

    def __init__(
        self, cluster: NaiveCluster, number: int, work: Workload, policy: Any, cost: CostModel, role: str, run_tokens: int,
        keeps_outputs: bool, **shape: Any,
    ) -> None:  # fmt: skip
        super().__init__(work, policy, cost, **shape)
        self.cluster, self.number, self.role, self.run_tokens = cluster, number, role, run_tokens
        self.lane = number
        self.run_blocks, self.keeps_outputs = run_tokens // self.B, keeps_outputs
        self.up, self.busy, self.wake_set = True, False, False
        self.waiting: list[ClusterReq] = []  # type: ignore[assignment]
        self.running: list[ClusterReq] = []  # type: ignore[assignment]
        self.inbox: list[ClusterReq] = []
        self.landed: list[ClusterReq] = []  # arrived with their KV, without a sequence slot yet
        self.aside: list[ClusterReq] = []  # transferred, their KV still here
        self.reserved: list[tuple[ClusterReq, int]] = []  # tables of requests that are being copied here
        self.coming: list[Migration] = []  # moves that hold memory here
        self.stopped: list[ClusterReq] = []  # on their way elsewhere, decoding no more, their KV still here
        self.between: list[Callable[[], None]] = []  # what waits for the end of the step in progress, in order
        self.cut_after: list[int] = []  # number of the last step that had ended when it died
        self.idle: list[Key] = []  # contents that no request uses, least recently used first

    # memory
    @property
    def holders(self) -> list[ClusterReq]:
        return [*self.running, *self.landed, *self.stopped, *self.aside]

    @property
    def shared(self) -> set[Key]:
        return {key for r in self.holders for key in r.pinned}

    @property
    def free(self) -> int:
        decoding = [*self.running, *self.landed, *self.stopped]
        held = sum(self.held_by(r) for r in decoding) + sum(self.size(r.held, True) for r in self.aside)
        shared_more = sum(len(r.pinned) for r in self.holders) - len(self.shared)
        reserved = sum(self.size(table, False) for _, table in self.reserved)
        reserved += sum(self.arriving(move.table, move.last) for move in self.coming)
        return self.kv_blocks - held + shared_more * self.shared_blocks - reserved

    def arriving(self, table: int, last: bool) -> int:
        """Blocks of a table on its way here; windows and state come with the last copy."""
        return self.size(table, False) if last else self.groups[0] * table

    @property
    def shared_blocks(self) -> int:
        """Blocks of one content: of the layers that keep every token."""
        return self.run_blocks * self.groups[0]

    def trim(self) -> None:
        """Idle contents live in free blocks only."""
        while len(self.idle) * self.shared_blocks > self.free:
            self.idle.pop(0)

    def cached(self, r: ClusterReq) -> int:
        """Leading tokens that are known here, but for at least one token of its target; generated ones where these are kept."""
        tokens, known = 0, [*self.idle, *self.shared]
        if r.credit:
            return r.credit
        for key in r.ids if self.run_tokens else ():
            most = r.prompt + r.generated - 1
            if key not in known or tokens + self.run_tokens > (most if self.keeps_outputs else min(r.prompt, most)):
                break
            tokens += self.run_tokens
        return tokens

    def parts(self, r: ClusterReq, found: int) -> list[Any]:
        """The contents that it shares when it has found so many tokens."""
        return r.ids[: found // self.run_tokens] if self.run_tokens and not r.credit else []

    def offer(self, r: ClusterReq) -> None:
        """What it has computed (of its prompt, or at all) can be found by others, unless it is a copy of something known."""
        told = r.computed if self.keeps_outputs else min(r.computed, r.prompt)
        full = told // self.run_tokens if self.run_tokens else 0
        for key in r.ids[r.offered : full]:
            if key not in self.shared and key not in self.idle:
                r.pinned.append(key)
        r.offered = max(r.offered, full)

    def release(self, r: ClusterReq) -> None:
        """It uses no contents any more; its end is forgotten before its beginning."""
        if self.keeps_outputs:
            self.offer(r)
        others = {key for other in self.holders if other is not r for key in other.pinned}
        self.idle += [key for key in reversed(r.pinned) if key not in others]
        r.pinned, r.offered = [], 0

    # what a policy asks and does
    @property
    def head(self) -> ClusterReq:
        if self.order == "longest-prefix":
            return min(self.waiting, key=lambda r: (-r.estimate, self.place(r)))
        return super().head  # type: ignore[return-value]

    def woken(self, r: ClusterReq) -> int:  # type: ignore[override]
        return sum(key in self.idle for key in self.parts(r, self.cached(r))) * self.shared_blocks

    def can_admit(self, tokens: int) -> bool:
        r = self.head
        found = self.cached(r)
        parts = self.parts(r, found)
        new = self.size(max(self.table(tokens), self.table(found)), True) - len(parts) * self.shared_blocks
        woken = sum(key in self.idle for key in parts) * self.shared_blocks
        fits = self.free - new - woken >= self.W and len(self.running) < self.max_seqs
        return fits and not self.preempted and not self.swapped

    def admit(self, r: ClusterReq, tokens: int) -> None:  # type: ignore[override]
        found = self.cached(r)
        parts = self.parts(r, found)
        super().admit(r, tokens)
        r.pinned, r.offered, r.computed = parts, len(parts), found
        r.held = max(r.held, self.table(found))
        if math.isnan(r.scheduled_s):
            r.cached += found
        else:
            r.reread += found
        self.idle = [key for key in self.idle if key not in r.pinned]
        self.trim()
        if math.isnan(r.scheduled_s):
            r.scheduled_s = self.now
        self.cluster.begun(self, r)

    def slice_(self, r: Req, tokens: int, layers: tuple[int, int] = (0, 1)) -> None:
        super().slice_(r, tokens, layers)
        self.trim()

    def preempt(self, r: ClusterReq) -> None:  # type: ignore[override]
        self.release(r)
        super().preempt(r)
        self.cluster.leaves(r)
        self.cluster.migrations.leaves(r, "the request was preempted")

    def decode_all(self, budget: int | None = None) -> None:
        super().decode_all(budget)
        self.trim()

    def swap_in(self) -> None:
        super().swap_in()
        self.trim()

    def reject(self, r: Req, reason: str) -> None:
        self.waiting.remove(r)  # type: ignore[arg-type]
        self.end_all([(r, "REJECTED", reason)])

    def ended_here(self, r: Req) -> bool:
        """A prefill instance does not see what ends elsewhere."""
        return super().ended_here(r) and r.served_by == self.number  # type: ignore[attr-defined]

    # time
    def start(self) -> None:
        """Between two steps: newcomers queue, arrived requests take slots, the policy plans, and the step begins if there is one."""
        self.now, self.busy = self.cluster.now, False
        for r in sorted(self.inbox, key=lambda r: (r.queued_s, r.row)):
            self.waiting.append(r)
            self.comes(r)
        self.inbox.clear()
        self.plan()
        while not self.decodes and not self.slices:
            self.cluster.pull(self)
            if not self.preempted:
                return
            self.plan()
        self.busy, self.start_s, self.left_waiting = True, self.now, len(self.waiting)
        self.end_s = self.now + self.priced()

    def plan(self) -> None:
        self.decodes, self.slices, self.swaps, self.preempted = [], [], [], False
        for r in self.waiting:
            r.estimate = self.cached(r)
        while self.landed and len(self.running) < self.max_seqs:
            r = self.landed.pop(0)
            r.admission = self.admissions
            self.admissions += 1
            self.running.append(r)
            self.joins_batch(r)
        self.policy(self)

    def finish(self) -> None:
        """The step in progress is over: its tokens are out."""
        self.now = self.cluster.now
        taken = replace(self.about_to_take(self.start_s), waiting=self.left_waiting)
        ended: list[Any] = []
        for r in sorted(self.decodes, key=lambda r: r.row):
            self.computes(r)
            self.tokens(r, ended, r.gained)
        for r, s in self.slices:
            if taken.layers[0] < taken.layers[1] - 1 or r not in self.running:
                continue
            r.computed += s.new_tokens
            self.offer(r)  # type: ignore[arg-type]
            if not r.prefilling:
                self.joins_batch(r)
                self.tokens(r, ended)
                if self.role == "prefill" and r.generated < r.output:
                    self.cluster.transfer_prefilled(self, r)
        self.steps.append(taken)
        for r, _, _ in ended:
            self.running.remove(r)
            self.release(r)
            r.held, r.served_by = 0, self.number
            self.cluster.leaves(r)
            self.cluster.migrations.leaves(r, "the request ended")
        self.end_all(ended)

    def tokens(self, r: Req, ended: list[Any], tokens: int = 1) -> None:
        r.generated += tokens
        r.token_s += [self.now] * tokens
        if r.generated == r.output:
            ended.append((r, "COMPLETED", r.reason))

    def end_all(self, ended: list[Any]) -> None:
        """Requests end together; what follows from it comes afterwards."""
        for r, status, reason in ended:
            r.finish_s, r.status, r.reason, r.place = self.now, status, reason, -1
        self.cluster.ended(sorted(r.row for r, _, _ in ended))
