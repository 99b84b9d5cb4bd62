"""The naive cluster: several naive instances, routers that count, copies over shared links, instances that die.

Everything that is to happen is one list, `agenda`; the earliest thing happens next. No SimPy, no spans, no counters kept up to date: a
router's signals are counted when it asks, the fractions of a link whenever a copy enters or leaves. Written from docs/invariants.md, "The
rules of a cluster"; shares no code with `simserve.engine`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simserve.workload.requests import Workload
from tests.reference.naive import parents_of
from tests.reference.naive_instance import ClusterReq, NaiveInstance
from tests.reference.naive_link import FIRST, Copy, NaiveLink
from tests.reference.naive_migration import NaiveMigrations, Plan
from tests.reference.naive_token_prefix import NaiveTokenInstance


@dataclass(eq=False)
class Move:
    """A request on its way. `reserved_s` = when memory was found for it, `copy` = while it is copied; `prefilled` = it has left its
    source's batch."""

    r: ClusterReq
    source: NaiveInstance
    destination: NaiveInstance | None = None
    copy: Copy | None = None
    reserved_s: float | None = None
    prefilled: bool = True


class NaiveCluster:
    """`instances[i]` = arguments of a NaiveInstance beside its place in the cluster, and its `link` (bytes_per_s, latency_s)."""

    def __init__(
        self,
        work: Workload,
        instances: list[dict[str, Any]],
        router: str = "round-robin",
        decode_router: str = "least-outstanding",
        kv_bytes_per_token: float = 0.0,
        failures: tuple[tuple[float, int], ...] = (),
        restart_s: float = 60.0,
        rule: str = "resume",
        kv_transfer: str = "pull",
        layers: int = 1,
        windows: tuple[tuple[int, float], ...] = (),
        state_bytes: float = 0.0,
        migrations: Plan | None = None,
    ) -> None:
        self.kv_transfer_by, self.layers, self.windows, self.state_bytes = kv_transfer, layers, windows, state_bytes
        self.now, self.agenda, self.serial = 0.0, [], 0
        t, ids = work.requests, work.requests.prefix
        columns = [t.column(name) for name in ("adapter", "salt")]
        whose = [tuple("" if c is None else c.names[c.codes[i]] for c in columns) for i in range(len(t))]
        self.reqs = [
            ClusterReq(
                i,
                max(1, int(t.prompt_tokens[i])),
                int(t.output_tokens[i]),
                int(t.max_output_tokens[i]) if t.max_output_tokens[i] >= t.output_tokens[i] else -1,
                int(t.priority[i]),
                ids=[(*whose[i], key) for key in ids.ids[ids.offsets[i] : ids.offsets[i + 1]].tolist()] if ids is not None else [],
            )
            for i in range(len(t))
        ]
        self.delay_s, self.after = [float(x) for x in t.arrival_s], [int(x) for x in t.after]
        self.parents, self.gone, self.followed = parents_of(work), set[int](), set[int]()
        self.concurrency, self.think_s = work.concurrency, work.think_s
        self.most, self.under_way, self.held_back = work.max_concurrency or 10**9, 0, []
        self.instances: list[NaiveInstance] = []
        self.links: list[NaiveLink | None] = []
        for number, one in enumerate(instances):
            shape = dict(one)
            link = shape.pop("link", None)
            self.links.append(NaiveLink(self, *link) if link else None)
            caching = shape.pop("prefix_caching", False) and ids is not None
            keeps = bool(caching and ids.outputs and shape.pop("caches_outputs", True))
            kind = NaiveTokenInstance if shape.pop("prefix_match", "block") == "token" else NaiveInstance
            instance = kind(self, number, work, run_tokens=ids.block_tokens if caching else 0, keeps_outputs=keeps, **shape)
            self.instances.append(instance)
        self.routers, self.last = {"entry": router, "decode": decode_router}, {"entry": -1, "decode": -1}
        self.kv_bytes_per_token, self.restart_s, self.rule = kv_bytes_per_token, restart_s, rule
        self.goes_anywhere = bool(failures) or migrations is not None
        self.migrations = NaiveMigrations(self, migrations)
        self.pools = {
            "entry": [i for i in self.instances if i.role != "decode"],
            "decode": [i for i in self.instances if i.role == "decode"],
        }
        self.queues: dict[int, list[Move]] = {i.number: [] for i in self.pools["decode"]}
        self.moves: list[Move] = []
        self.unassigned: list[Move] = []
        self.held: list[ClusterReq] = []
        self.ready: list[int] = []
        self.releasing = False
        patience_s = t.column("patience_s")
        self.patience_s = [math.nan] * len(t) if patience_s is None else [float(x) for x in patience_s]
        self.leave_with_step: list[ClusterReq] = []
        self.gave_up: set[str] = set()
        self.deaths = self.waited_for_room = self.sent_ahead = self.withdrawn = 0
        for at_s, number in failures:
            self.at(at_s, FIRST, lambda number=number: self.kill(self.instances[number]))  # type: ignore[misc]

    # time
    def at(self, time_s: float, priority: int, what: Callable[[], None]) -> Any:
        self.serial += 1
        entry = (time_s, priority, self.serial, what)
        self.agenda.append(entry)
        return entry

    def run(self) -> NaiveCluster:
        if self.concurrency is None:
            self.coming = [i for i in range(len(self.reqs)) if self.after[i] < 0]
            self.expect_arrival()
        else:
            self.sent = min(self.concurrency, len(self.reqs))
            self.at(0.0, FIRST, lambda: self.release(list(range(self.sent))))
        while self.agenda:
            entry = min(self.agenda, key=lambda e: e[:3])
            self.agenda.remove(entry)
            self.now = entry[0]
            entry[3]()
        assert all(r.status for r in self.reqs), "requests have not ended"
        return self

    def start(self, i: NaiveInstance) -> None:
        i.start()
        if i.busy:
            i.step_end = self.at(i.end_s, 1 + i.number, lambda: self.step_ended(i))

    def step_ended(self, i: NaiveInstance) -> None:
        i.finish()
        while i.between:
            i.between.pop(0)()
        self.pull(i)
        self.start(i)

    def wake(self, i: NaiveInstance) -> None:
        """Something has changed for an instance; one in a step looks when the step ends, an idle one when all that this instant brings is
        there."""
        if not i.busy and not i.wake_set:
            i.wake_set = True
            self.at(self.now, 1 + i.number, lambda: self.woken(i))

    def woken(self, i: NaiveInstance) -> None:
        i.wake_set = False
        if not i.busy:
            self.start(i)

    # requests come
    def expect_arrival(self) -> None:
        if self.coming:
            self.at(self.delay_s[self.coming[0]], FIRST, self.arrival)

    def arrival(self) -> None:
        row = self.coming.pop(0)
        self.expect_arrival()
        self.come(row)

    def come(self, row: int) -> None:
        """The time of a request has come; the client sends it once fewer than its cap are under way."""
        self.held_back.append(row)
        self.let_in()

    def let_in(self, answered: int = 0) -> None:
        """The client has so many answers more, and sends what it held back while fewer than its cap are under way."""
        self.under_way -= answered
        while self.held_back and self.under_way < self.most:
            self.under_way += 1
            self.release([self.held_back.pop(0)])

    def ended(self, rows: list[int]) -> None:
        """What waited for these rows follows."""
        if self.concurrency is None:
            if self.now + self.think_s > self.now:
                self.at(self.now + self.think_s, FIRST, lambda: self.let_in(len(rows)))
            else:
                self.let_in(len(rows))
        for row in rows:
            if self.concurrency is None:
                self.gone.add(row)
                for child, parents in enumerate(self.parents):
                    if row in parents and parents <= self.gone and child not in self.followed:
                        self.followed.add(child)  # one that is refused at once has ended before this walk goes on
                        self.release_later(child, self.delay_s[child])
            elif self.sent < len(self.reqs):
                self.sent += 1
                self.release_later(self.sent - 1, self.think_s)

    def release_later(self, row: int, delay_s: float) -> None:
        if self.now + delay_s > self.now:
            self.at(self.now + delay_s, FIRST, lambda: self.follow(row))
        else:
            self.follow(row)

    def follow(self, row: int) -> None:
        if self.concurrency is None:
            self.come(row)
        else:
            self.release([row])

    def release(self, rows: list[int]) -> None:
        self.ready += rows
        if self.releasing:
            return
        self.releasing = True
        while self.ready:
            r = self.reqs[self.ready.pop(0)]
            r.released_s = self.now
            if r.output == 0:
                self.over(r, "FAILED", "failed in the trace")
            else:
                if self.patience_s[r.row] < math.inf:
                    self.at(self.now + self.patience_s[r.row], FIRST, lambda r=r: self.give_up(r))  # type: ignore[misc]
                self.route(r)
        self.releasing = False

    def over(self, r: ClusterReq, status: str, reason: str) -> None:
        r.status, r.reason, r.finish_s, r.place = status, reason, self.now, -1
        self.ended([r.row])

    # clients give up
    def give_up(self, r: ClusterReq, between: NaiveInstance | None = None) -> None:
        """The client of a request goes away: it leaves, wherever it is; one in a step when that has ended."""
        if r.status:
            return
        self.migrations.gives_up(r)
        where = next((i for i in self.instances if r in [*i.waiting, *i.inbox, *i.running, *i.swapped, *i.landed, *i.aside]), None)
        if where is None:
            self.gave_up.add("held")
            self.held.remove(r)
        elif r in where.running and where.busy and where is not between:
            r.leaves = where.number
            self.leave_with_step.append(r)
            where.between.append(lambda: self.leave(r, where))
            return
        else:
            lists = {name: getattr(where, name) for name in ("waiting", "inbox", "running", "swapped", "landed", "aside")}
            for name, place in lists.items():
                if r in place:
                    self.gave_up.add(name)
                    if name in ("running", "landed", "aside"):
                        where.release(r)
                    place.remove(r)
            r.held, r.served_by = 0, where.number
            for move in self.moves:
                if move.r is r:
                    self.moves.remove(move)
                    self.withdraw(move)
                    break
            self.migrations.leaves(r, "the request ended")
            self.wake(where)
        self.over(r, "CANCELLED", "the client gave up")

    def leave(self, r: ClusterReq, i: NaiveInstance) -> None:
        """The step has ended with which a request was to leave."""
        self.leave_with_step.remove(r)
        self.give_up(r, between=i)

    # routing
    def choose(self, pool: str) -> NaiveInstance | None:
        up = [i for i in self.pools[pool] if i.up]
        if not up:
            return None
        rule = self.routers[pool]
        if rule == "round-robin":
            chosen = next((i for i in up if i.number > self.last[pool]), up[0])
            self.last[pool] = chosen.number
            return chosen
        outstanding = {i: sum((r.place == i.number) + (r.ahead == i.number) for r in self.reqs) for i in up}
        if rule == "least-outstanding":
            return min(up, key=lambda i: (outstanding[i], i.number))
        if rule == "least-tokens":
            tokens = {i: sum(r.prompt for r in self.reqs for at in (r.place, r.ahead) if at == i.number) for i in up}
            return min(up, key=lambda i: (tokens[i], i.number))
        assert rule == "shortest-queue"
        return min(up, key=lambda i: (len(i.waiting) + len(i.inbox), outstanding[i], i.number))

    def route(self, r: ClusterReq) -> None:
        self.migrations.wake()
        chosen = None if self.held else self.choose("entry")
        if chosen is None:
            self.held.append(r)
        else:
            self.send(r, chosen)

    def send(self, r: ClusterReq, i: NaiveInstance) -> None:
        limits = [one.limit for one in self.pools["entry"]] if self.goes_anywhere else [i.limit]
        if i.role != "mixed" or self.goes_anywhere:
            limits += [one.limit for one in self.pools["decode"]]
        limit = min(limits)
        if r.prompt >= limit:
            long = i.max_model_len is not None and r.prompt >= i.max_model_len
            self.over(r, "REJECTED", "prompt exceeds the model's context" if long else "prompt exceeds the KV cache")
            return
        if r.output > limit - r.prompt:
            r.output, r.reason = limit - r.prompt, "stopped at the context limit"
        r.place, r.queued_s = i.number, self.now
        i.inbox.append(r)
        self.wake(i)

    # prefill to decode
    def begun(self, source: NaiveInstance, r: Any) -> None:
        """A prefill starts: with a push, the request asks for memory where it will decode."""
        if self.kv_transfer_by != "pull" and source.role == "prefill" and all(move.r is not r for move in self.moves):
            move = Move(r, source, prefilled=False)
            self.moves.append(move)
            self.queue_up(move, self.choose("decode"))

    def transfer_prefilled(self, source: NaiveInstance, r: Any) -> None:
        pushed = next((move for move in self.moves if move.r is r), None)
        destination = self.choose("decode") if pushed is None else pushed.destination
        source.running.remove(r)
        source.aside.append(r)
        if pushed is not None:
            pushed.prefilled, r.place, r.ahead = True, r.ahead, -1
            if pushed.reserved_s is not None:
                self.start_copy(pushed)
            return
        move = Move(r, source)
        self.moves.append(move)
        self.queue_up(move, destination)

    def leaves(self, r: Any) -> None:
        """It ends, or is preempted, before it has moved: it is not expected any more."""
        for move in self.moves:
            if move.r is r:
                self.moves.remove(move)
                self.withdraw(move)
                self.withdrawn += 1
                return

    def queue_up(self, move: Move, destination: NaiveInstance | None) -> None:
        number = -1 if destination is None else destination.number
        move.destination = destination
        if move.prefilled:
            move.r.place = number
        else:
            move.r.ahead = number
        if destination is None:
            self.unassigned.append(move)
            return
        self.queues[destination.number].append(move)
        if not destination.busy:
            self.pull(destination)

    def pull(self, i: NaiveInstance) -> None:
        """Copies begin, in order, while the destination has memory for the tokens and the next one."""
        queue = self.queues.get(i.number, [])
        while queue:
            move = queue[0]
            table = i.table(max(move.r.computed, move.r.target) + 1)
            if i.free - i.size(table, False) < i.W:
                self.waited_for_room += 1
                return
            queue.remove(move)
            i.reserved.append((move.r, table))
            i.trim()
            move.reserved_s = self.now
            if move.prefilled:
                self.start_copy(move)

    def start_copy(self, move: Move) -> None:
        """What a layer-wise push has sent while the prompt was computed need not be sent any more; the last layer must."""
        link = self.links[move.source.number]
        assert link is not None and move.reserved_s is not None
        tokens = move.r.computed
        size_bytes = tokens * self.kv_bytes_per_token + sum(min(tokens, kept) * each for kept, each in self.windows) + self.state_bytes
        if self.kv_transfer_by == "push-layerwise":
            ahead_s = self.now - max(move.reserved_s, move.r.scheduled_s)
            self.sent_ahead += ahead_s > 0
            size_bytes = max(size_bytes / self.layers, size_bytes - link.bytes_per_s * ahead_s)
        move.copy = link.start(size_bytes, lambda: self.arrived(move))

    def arrived(self, move: Move) -> None:
        r, source, destination = move.r, move.source, move.destination
        assert destination is not None
        self.moves.remove(move)
        source.release(r)
        source.aside.remove(r)
        self.wake(source)
        (table,) = (table for other, table in destination.reserved if other is r)
        destination.reserved.remove((r, table))
        r.held = table
        destination.landed.append(r)
        self.wake(destination)

    # states of instances
    def kill(self, i: NaiveInstance) -> None:
        if not i.up or all(r.status for r in self.reqs):
            return
        i.up = False
        self.deaths += 1
        i.cut_after.append(len(i.steps) - 1)
        self.migrations.dies(i)
        i.between.clear()
        if i.busy:
            self.agenda.remove(i.step_end)
            if i.end_s == self.now:  # a step that ends at this instant has ended
                i.finish()
        i.busy = False
        lost = [*i.waiting, *i.inbox, *i.running, *i.swapped, *i.landed]
        lost.sort(key=lambda r: r.row)
        for place in (i.waiting, i.inbox, i.running, i.swapped, i.landed, i.aside, i.reserved, i.idle):
            place.clear()
        for r in lost:
            self.lose_kv(r)
        for move in sorted(self.moves, key=lambda m: m.r.row):
            if move.source is i:
                self.moves.remove(move)
                self.withdraw(move)
                if move.prefilled:
                    self.lose_kv(move.r)
                    lost.append(move.r)
        again = sorted((move for move in self.moves if move.destination is i), key=lambda m: m.r.row)
        for move in again:
            self.withdraw(move)
        for move in again:
            self.queue_up(move, self.choose("decode"))
        self.at(self.now + self.restart_s, FIRST, lambda: self.restart(i))
        for r in lost:
            if r in self.leave_with_step:
                self.leave_with_step.remove(r)
                self.over(r, "CANCELLED", "the client gave up")
                continue
            if self.rule == "fail":
                self.over(r, "FAILED", "its instance died")
                continue
            if self.rule == "retry":
                r.generated, r.token_s, r.scheduled_s = 0, [], float("nan")
                r.reread, r.cached = r.reread + r.cached, 0
            self.route(r)

    def lose_kv(self, r: Any) -> None:
        r.recomputed += r.computed
        r.computed = r.held = r.target = r.credit = 0
        r.pinned, r.offered, r.place = [], 0, -1

    def withdraw(self, move: Move) -> None:
        """Nothing of the move is left at its destination or on the link."""
        if move in self.unassigned:
            self.unassigned.remove(move)
            return
        destination = move.destination
        assert destination is not None
        if move.reserved_s is None:
            self.queues[destination.number].remove(move)
        else:
            destination.reserved = [(r, blocks) for r, blocks in destination.reserved if r is not move.r]
        if move.copy is not None:
            link = self.links[move.source.number]
            assert link is not None
            link.cancel(move.copy)
        move.copy = move.reserved_s = None
        self.wake(destination)
        if move.prefilled:
            move.r.place = -1
        move.r.ahead = -1

    def restart(self, i: NaiveInstance) -> None:
        i.up = True
        waiting, self.unassigned = self.unassigned, []
        for move in waiting:
            self.queue_up(move, self.choose("decode"))
        while self.held:
            chosen = self.choose("entry")
            if chosen is None:
                return
            self.send(self.held.pop(0), chosen)
