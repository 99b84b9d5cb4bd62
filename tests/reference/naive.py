"""The naive simulator: one instance, one request object each, one token at a time, every sum computed afresh.

No SimPy, no spans, no groups, no caches. It shares no code with `simserve.engine`, but for the two tables that `varied` reads, and its
policies (`naive_policies`) share none with `simserve.policies`: both were written from the same rules (docs/invariants.md, "The rules both
sides follow"), so an agreement on every record is evidence for both. It is slow, and meant to be.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from simserve.contracts import FREED, CostModel, Slice, Speculation, Step
from simserve.engine.jitter import host_factors, stall_seconds
from simserve.speculation.draws import draw, key
from simserve.workload.requests import Workload


@dataclass(eq=False)
class Req:
    """One request. `computed` = tokens whose KV exists, `held` = blocks of its table, on the device or (swapped) on the host. Of a decoding
    one: `joined` = its place in the order in which the batch was joined, `began` = blocks it held then, `drafted`, `gained` = tokens
    drafted for it in the coming step, and tokens it will get. `credit` = tokens that count as computed when it is admitted again."""

    row: int
    prompt: int
    output: int
    max_output: int
    priority: int
    released_s: float = math.nan
    scheduled_s: float = math.nan
    finish_s: float = math.nan
    status: str = ""
    reason: str = ""
    target: int = 0
    computed: int = 0
    generated: int = 0
    held: int = 0
    admission: int = -1
    preemptions: int = 0
    recomputed: int = 0
    joined: int = -1
    began: int = 0
    drafted: int = 0
    gained: int = 1
    credit: int = 0
    token_s: list[float] = field(default_factory=list)

    @property
    def prefilling(self) -> bool:
        return self.computed < self.target


@dataclass
class StepTaken:
    """One step as it happened. `waiting` once it was planned; `kv_blocks` held while it runs; `verified` = drafted tokens, accepted ones,
    (query, key) pairs of the decodes, where the instance speculates."""

    start_s: float
    end_s: float
    decodes: int
    context_tokens: int
    prefills: int
    prefill_tokens: int
    prefill_pairs: int
    waiting: int
    kv_blocks: int
    layers: tuple[int, int] = (0, 1)
    verified: tuple[int, int, int] = (0, 0, 0)


def varied(seconds: float, jitter: Any, lane: int, number: int, decodes: int) -> float:
    """The time of a lane's step of that number (docs/invariants.md, "Steps that vary")."""
    drawn = draw(key(jitter.seed, lane, 0x4A49), number)
    mean, stalls = stall_seconds(jitter.stall_probability, jitter.stall_s)
    factor, stall = float(host_factors(jitter.spread)[drawn // 2**41]), float(stalls[drawn % 2**16])
    host = jitter.step_s + jitter.decode_s * decodes
    return max(seconds / 2, seconds + (host * (factor - 1.0) + (stall - mean * factor)))


Groups = tuple[int, tuple[tuple[int, int, int], ...], int]
"""What a table block takes of the pool: blocks in layers that keep every token; for each window (blocks, table blocks kept of a prompt,
table blocks kept while decoding); blocks of a sequence of any length."""

EVERY_TOKEN: Groups = (1, (), 0)


def parents_of(work: Workload) -> list[set[int]]:
    """Of each row, all the rows that must have ended before it is due."""
    t, also = work.requests, work.requests.also_after
    parents = [{int(after)} if after >= 0 else set() for after in t.after]
    for row, mine in enumerate(parents):
        mine.update(also.rows[also.offsets[row] : also.offsets[row + 1]].tolist() if also is not None else ())
    return parents


class Naive:
    """State and clock. A policy is a function of this object that calls `admit`, `slice_`, `decode_all`, `preempt`, `reject`."""

    def __init__(
        self, work: Workload, policy: Any, cost: CostModel, *, kv_blocks: int, block_tokens: int, max_seqs: int, watermark_blocks: int = 0,
        max_model_len: int | None = None, preemption: str = "recompute", host_kv_blocks: int = 0, order: str = "fcfs",
        groups: Groups = EVERY_TOKEN, speculation: Speculation | None = None, jitter: Any = None,
    ) -> None:  # fmt: skip
        self.policy, self.cost, self.order, self.mode = policy, cost, order, preemption
        self.kv_blocks, self.B, self.W, self.host_kv_blocks = kv_blocks, block_tokens, watermark_blocks, host_kv_blocks
        self.max_seqs = max_seqs
        self.max_model_len, self.concurrency, self.think_s = max_model_len, work.concurrency, work.think_s
        self.groups, self.speculation, self.drafts, self.budget = groups, speculation, 0, None
        self.jitter, self.lane = jitter, 0
        self.limit = min(max_model_len or 10**12, self.longest())
        t = work.requests
        self.reqs = [
            Req(i, max(1, int(t.prompt_tokens[i])), int(t.output_tokens[i]), int(t.max_output_tokens[i]), int(t.priority[i]))
            for i in range(len(t))
        ]
        self.delay_s, self.after = [float(x) for x in t.arrival_s], [int(x) for x in t.after]
        self.parents = parents_of(work)
        self.now, self.admissions, self.joins, self.last_was_decode = 0.0, 0, 0, False
        self.entries: list[tuple[float, int]] = []
        self.waiting: list[Req] = []
        self.requeues_last = False  # a policy's rule: the preempted wait behind those that have come
        self.came: dict[int, int] = {}
        self.comings = 0
        self.running: list[Req] = []
        self.swapped: list[Req] = []
        self.steps: list[StepTaken] = []
        self.cut: Counter[str] = Counter()  # how often fewer tokens were drafted than was wanted, and why

    # memory
    def table(self, tokens: int) -> int:
        return -(-tokens // self.B)

    def size(self, table: int, prompt: bool) -> int:
        """Blocks of the pool for a table: of a `prompt` that is computed, or of a request that decodes."""
        full, windows, state = self.groups
        return full * table + sum(w * min(table, of_prompt if prompt else decoding) for w, of_prompt, decoding in windows) + state

    def held_by(self, r: Req) -> int:
        return self.size(r.held, r.prefilling)

    def longest(self) -> int:
        """Tokens of the longest sequence whose prompt fits when its next block counts in full, and another state."""
        full, windows, state = self.groups
        room, table = self.kv_blocks - self.W - state - sum(w for w, _, _ in windows), 0
        if not full and self.size(10**9, True) <= room:
            return 10**12
        while self.size(table + 1, True) <= room:
            table += 1
        return table * self.B

    # questions a policy may ask
    def blocks(self, tokens: int) -> int:
        return self.size(self.table(tokens), True)

    def more(self, r: Req, tokens: int) -> int:
        """Blocks that a prompt needs to be computed as far as `tokens`."""
        return self.size(max(r.held, self.table(tokens)), True) - self.size(r.held, True)

    @property
    def room(self) -> int:
        """Tokens of a new sequence that surely fit above the watermark."""
        full, windows, state = self.groups
        return max(0, (self.free - self.W - state) // (full + sum(w for w, _, _ in windows))) * self.B

    @property
    def free(self) -> int:
        return self.kv_blocks - sum(self.held_by(r) for r in self.running)

    @property
    def prefilling(self) -> list[Req]:
        return sorted((r for r in self.running if r.prefilling), key=lambda r: r.admission)

    @property
    def decoding(self) -> list[Req]:
        return sorted((r for r in self.running if not r.prefilling), key=lambda r: r.admission)

    @property
    def head(self) -> Req:
        keys = {
            "fcfs": lambda r: 0,
            "priority": lambda r: (-r.priority, self.place(r)),
            "shortest-job": lambda r: (r.prompt + r.output, self.place(r)),
        }
        return min(self.waiting, key=keys.get(self.order, lambda r: self.place(r)))

    def place(self, r: Req) -> int:
        """Among equals of a queue in some order."""
        return self.came[r.row] if self.requeues_last else r.row

    def can_admit(self, tokens: int) -> bool:
        return self.free - self.blocks(tokens) >= self.W and len(self.running) < self.max_seqs

    def cached(self, r: Req) -> int:
        """Tokens of the request that an admission now would find computed."""
        return r.credit

    def woken(self, r: Req) -> int:
        """Free blocks that its contents would take which are kept here and not in use."""
        return 0

    def trim(self) -> None:
        """Blocks have been taken: what was kept in them is forgotten."""

    def ended_here(self, r: Req) -> bool:
        """Whether the request has been seen to end."""
        return bool(r.status)

    # actions of a policy
    def admit(self, r: Req, tokens: int) -> None:
        self.waiting.remove(r)
        self.running.append(r)
        r.held, r.computed, r.target, r.credit = self.table(tokens), r.credit, r.prompt + r.generated, 0
        r.admission = self.admissions
        self.admissions += 1

    def slice_(self, r: Req, tokens: int, layers: tuple[int, int] = (0, 1)) -> None:
        """`layers` = (group, groups): the tokens pass through this group of the layers, and are there after the last."""
        r.held = max(r.held, self.table(r.computed + tokens))
        assert self.free >= 0 and tokens > 0
        self.slices.append((r, Slice(tokens, r.computed, layers if layers[1] > 1 else None)))

    def preempt(self, r: Req) -> None:
        self.running.remove(r)
        self.preempted = True
        r.preemptions += 1
        host_free = self.host_kv_blocks - sum(self.held_by(s) for s in self.swapped)
        if self.mode == "swap" and not r.prefilling and self.held_by(r) <= host_free:
            self.swapped.append(r)
            self.swaps.append(r.computed)
        else:
            r.recomputed += r.computed
            r.computed = r.held = r.target = 0
            self.requeue(r)

    def comes(self, r: Req) -> None:
        self.comings += 1
        self.came[r.row] = self.comings

    def requeue(self, r: Req) -> None:
        """A preempted request waits again."""
        if self.requeues_last:
            self.waiting.append(r)
            self.comes(r)
        else:
            self.waiting.insert(0, r)

    def victim(self) -> Req:
        return max(self.running, key=lambda r: (-r.priority, r.row) if self.order == "priority" else (r.admission,))

    def decode_all(self, budget: int | None = None) -> None:
        """`budget`: most tokens that the decodes compute, drafted ones included; but each computes one."""
        batch = self.decoding
        self.drafts = self.speculation.drafts(max(1, len(batch))) if self.speculation else 0
        self.budget = budget
        while True:
            self.draft(self.decoding)
            tables = {r: max(r.held, self.table(r.computed + 1 + r.drafted)) for r in self.decoding}
            if sum(self.size(table, False) - self.held_by(r) for r, table in tables.items()) <= self.free:
                break
            self.preempt(self.victim())
        self.decodes = self.decoding
        self.held_before = {r.row: r.held for r in self.decodes}
        self.grow_tables()

    def grow_tables(self) -> None:
        for r in self.decodes:
            r.held = max(self.held_before[r.row], self.table(r.computed + 1 + r.drafted))

    def draft(self, batch: list[Req]) -> None:
        """What is drafted for each of these in the coming step, and what it gets, dealt in the order in which they began to decode."""
        left = 10**12 if self.budget is None else max(0, self.budget - len(batch))
        for r in sorted(batch, key=lambda r: r.joined):
            r.drafted, r.gained = 0, 1
            if self.drafts:
                assert self.speculation is not None
                for most in (None, left):
                    course = self.speculation.course(r.row, r.generated, r.output, self.drafts, most)
                    r.gained = int(course.tokens[0])
                    r.drafted = max(r.gained - 1, min(int(course.drafted[0]), self.limit - 1 - r.computed))
                    self.cut["limit"] += r.drafted < course.drafted[0]
                    if r.drafted <= left:
                        break
                    self.cut["budget"] += 1
            left -= r.drafted

    @property
    def decode_tokens(self) -> int:
        """Tokens that the decodes of the coming step compute."""
        return sum(1 + r.drafted for r in self.decodes)

    @property
    def taken(self) -> int:
        """Tokens of the coming step so far."""
        return self.decode_tokens + sum(piece.new_tokens for _, piece in self.slices)

    def joins_batch(self, r: Req) -> None:
        """It decodes from the next plan on, or from this one."""
        r.joined, r.began = self.joins, r.held
        self.joins += 1

    def swap_in(self) -> None:
        while self.swapped and not self.preempted:
            s = min(self.swapped, key=lambda r: r.admission)
            most = self.speculation.most_drafted(self.drafts) if self.speculation else 0
            held = max(s.held, self.table(min(s.computed + 1 + most, self.limit)))
            if self.free - self.size(held, False) < self.W or len(self.running) >= self.max_seqs:
                break
            self.swapped.remove(s)
            self.running.append(s)
            self.swaps.append(s.computed)
            s.held = self.held_before[s.row] = held
            self.joins_batch(s)
            self.decodes.append(s)
        self.draft(self.decodes)  # once more, now that all are there
        self.grow_tables()

    # life of a request
    def enter_all(self, until_s: float) -> None:
        while self.entries and self.entries[0][0] <= until_s:
            t, row = heapq.heappop(self.entries)
            self.enter(self.reqs[row], t)

    def enter(self, r: Req, t: float) -> None:
        r.released_s = t
        if r.output == 0:
            self.end(r, t, "FAILED", "failed in the trace")
        elif r.prompt >= self.limit:
            long = self.max_model_len is not None and r.prompt >= self.max_model_len
            self.end(r, t, "REJECTED", "prompt exceeds the model's context" if long else "prompt exceeds the KV cache")
        else:
            if r.output > self.limit - r.prompt:
                r.output, r.reason = self.limit - r.prompt, "stopped at the context limit"
            self.waiting.append(r)
            self.comes(r)

    def reject(self, r: Req, reason: str) -> None:
        self.waiting.remove(r)
        self.end(r, self.now, "REJECTED", reason)

    def end(self, r: Req, t: float, status: str, reason: str) -> None:
        r.finish_s, r.status, r.reason, r.held = t, status, reason, 0
        if self.concurrency is None:
            for row, parents in enumerate(self.parents):
                if r.row in parents and all(self.reqs[p].status for p in parents):
                    heapq.heappush(self.entries, (t + self.delay_s[row], row))
        elif self.sent < len(self.reqs):
            heapq.heappush(self.entries, (t + self.think_s, self.sent))
            self.sent += 1

    # the loop
    def run(self) -> Naive:
        if self.concurrency is None:
            self.entries = [(self.delay_s[i], i) for i in range(len(self.reqs)) if self.after[i] < 0]
        else:
            self.sent = min(self.concurrency, len(self.reqs))
            self.entries = [(0.0, i) for i in range(self.sent)]
        heapq.heapify(self.entries)
        while self.entries or self.waiting or self.running or self.swapped:
            if not (self.waiting or self.running or self.swapped):
                self.now = max(self.now, self.entries[0][0])
            self.enter_all(self.now)
            if self.waiting or self.running or self.swapped:
                self.step()
        return self

    def step(self) -> None:
        self.decodes: list[Req] = []
        self.slices: list[tuple[Req, Slice]] = []
        self.swaps: list[int] = []
        self.preempted = False
        self.policy(self)
        if not self.decodes and not self.slices:
            if self.waiting or self.running or self.swapped:
                raise RuntimeError(f"the plan at {self.now} has no work")
            return
        start_s, self.now = self.now, self.now + self.priced()
        for r in [*self.decodes, *(r for r, _ in self.slices)]:
            r.scheduled_s = start_s if math.isnan(r.scheduled_s) else r.scheduled_s
        taken = self.about_to_take(start_s)
        self.enter_all(math.nextafter(self.now, 0.0))  # what enters during the step comes before what its end causes
        for r in self.decodes:
            self.computes(r)
            self.emit(r, r.gained)
        for r, s in self.slices:
            if taken.layers[0] == taken.layers[1] - 1 and r in self.running:
                r.computed += s.new_tokens
                if not r.prefilling:
                    self.joins_batch(r)
                    self.emit(r)
        self.steps.append(taken)

    @property
    def contexts(self) -> list[int]:
        """Tokens that the last query of each decode attends."""
        return [r.computed + 1 + r.drafted for r in self.decodes]

    def priced(self) -> float:
        """Seconds of the planned step."""
        chunks, drafted = [s for _, s in self.slices], sum(r.drafted for r in self.decodes)
        passes = self.speculation.passes(self.drafts) if self.speculation and self.decodes and self.drafts else 0
        step = Step(len(self.decodes), sum(self.contexts), max(self.contexts, default=0), chunks, drafted, passes)
        seconds = self.cost.step_time(step)
        if self.jitter:
            seconds = varied(seconds, self.jitter, self.lane, len(self.steps), len(self.decodes))
        for tokens in self.swaps:
            seconds += self.cost.swap_time(tokens)
        return seconds

    def about_to_take(self, start_s: float) -> StepTaken:
        """The planned step, from `start_s` to now."""
        chunks = [s for _, s in self.slices]
        pairs = sum(c * k + c * (c + 1) // 2 for c, k, *_ in chunks)
        layers = next((s.layers for s in chunks if s.layers), (0, 1))
        tokens = sum(c.new_tokens for c in chunks)
        verified = 0, 0, 0
        if self.speculation:
            attended = sum(r.computed + 1 + i for r in self.decodes for i in range(1 + r.drafted))
            verified = sum(r.drafted for r in self.decodes), sum(r.gained - 1 for r in self.decodes), attended
        counts = len(self.decodes), sum(self.contexts), len(chunks), tokens, pairs, len(self.waiting), self.kv_blocks - self.free
        return StepTaken(start_s, self.now, *counts, layers, verified)

    def computes(self, r: Req) -> None:
        """A decode is over: the tokens that it gets, but for the last, have their KV; blocks of the others are kept or freed."""
        r.computed += r.gained
        if self.speculation is not None and self.speculation.rejected_kv == FREED:
            r.held = max(r.began, self.table(r.computed))

    def emit(self, r: Req, tokens: int = 1) -> None:
        r.generated += tokens
        r.token_s += [self.now] * tokens
        if r.generated == r.output:
            self.running.remove(r)
            self.end(r, self.now, "COMPLETED", r.reason)
