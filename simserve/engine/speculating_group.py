"""The decoding requests of a lane that speculates: each tick gives each member one token and the drafted ones that the model accepts.

What a member gets does not depend on scheduling (`contracts.Speculation`), so its whole course is known when it joins: tokens, drafted
tokens and blocks of each of its steps. The group keeps their sums over the members by tick, so that a step is read off one column of a
table, and a run of steps off several, whatever the number of requests in it.
"""

from __future__ import annotations

from heapq import heappush
from typing import Any

import numpy as np

from simserve.compiled import mypyc_attr
from simserve.contracts import FREED, Course, Request, Speculation, Step
from simserve.contracts.cost import I64, DecodeSteps
from simserve.engine.decode_group import DecodeGroup
from simserve.engine.kv_groups import KvGroups
from simserve.engine.request import LiveRequest, State
from simserve.engine.speculating_member import AFTER, CONTEXT, DRAFTED, DURING, Member, Memory, fault
from simserve.errors import ConfigError

_FIRST_TICKS = 1024


@mypyc_attr(allow_interpreted_subclasses=True)
class SpeculatingGroup(DecodeGroup):
    """A decoding group whose members speculate. `limit_tokens`: longest sequence that a request may reach; nothing is drafted beyond."""

    __slots__ = (
        "_by_row",
        "_capped",
        "_coming",
        "_emitted",
        "_held",
        "_longest",
        "_longest_known",
        "_memory",
        "_most_tokens",
        "_origin",
        "_passes",
        "_table",
        "drafts",
        "speculation",
    )

    def __init__(self, block_tokens: int, groups: KvGroups | None, speculation: Speculation, limit_tokens: int) -> None:
        super().__init__(block_tokens, groups)
        self.speculation = speculation
        self._memory = Memory(block_tokens, limit_tokens, groups, speculation.rejected_kv == FREED)
        self.drafts = 0
        """Tokens drafted in a row for each member, as the members' courses have it."""
        self._coming: list[int] = []
        """The table's column of the tick whose blocks were taken last."""
        self._most_tokens = 1
        """Most tokens that a member computes in a step."""
        self._by_row: dict[int, Member] = {}
        self._emitted: dict[int, I64] = {}
        self._table = np.zeros((self._memory.rows, _FIRST_TICKS), dtype=np.int64)
        self._longest = np.zeros(_FIRST_TICKS, dtype=np.int64)
        self._longest_known = True
        self._passes = np.zeros(_FIRST_TICKS, dtype=np.int64)
        """Forward passes of the draft in each of some ticks."""
        self._origin = 0
        """Tick of the table's first column."""
        self._held = 0
        """Blocks of the pool that the members hold."""
        self._capped = -1
        """The tick at which the token budget has cut what is drafted."""

    # -- coming and going ----------------------------------------------------------------------------------------------------------

    def join(self, request: LiveRequest, output_tokens: int, grows: bool) -> None:
        """Adds a request whose computed, generated and held counts are up to date, to decode from the next tick on."""
        request.state = State.DECODING
        request.first_tick = self.tick
        request.grows = False
        self.members[request.row] = request
        self._by_row[request.row] = member = Member(request, self.tick)
        self._held += self._memory.owned(request.held_blocks)
        self._follow(member, output_tokens)

    def leave(self, request: LiveRequest) -> None:
        """Takes a member out and brings its computed, generated and held counts up to date."""
        row = request.row
        member = self._by_row.pop(row)
        del self.members[row], self._finish[row]
        self._forget(member)
        done = self.tick - member.first_tick
        gained = int(member.before[done]) - member.generated
        request.computed_tokens = member.computed + gained
        request.generated_tokens = member.generated + gained
        self._emitted[row] = member.tokens[:done]
        request.held_blocks = held = member.held_after(done, self._memory)
        self._held = self._held - self._memory.owned(held) if self.members else 0  # none if a step in progress was lost
        if self.groups is not None:
            request.beside_blocks = self.groups.beside(held, True)
        self._trim_endings()

    def emitted(self, row: int) -> I64 | None:
        """Tokens that a request which has left had got in each of its steps, told once; None of one that was no member."""
        return self._emitted.pop(row, None)

    # -- how much is drafted -------------------------------------------------------------------------------------------------------

    def draft(self, budget: int | None) -> None:
        """Settles what is drafted in the coming step: by the size of the batch, and within a token budget."""
        speculation: Any = self.speculation
        drafts = speculation.drafts(len(self.members) or 1)
        if drafts != self.drafts or drafts.__class__ is not int:
            self._set_drafts(drafts)
        self.deal(budget)

    def deal(self, budget: int | None) -> None:
        """The members there are want what their courses say, and get it as far as the token budget goes, in the order in which they
        joined. Dealt again when others have left or joined before the step."""
        if self._capped == self.tick:
            self._capped = -1
            self._follow_again()
        members = len(self.members)
        if budget is not None and members * self._most_tokens > budget and self.next_tokens() > budget:
            self._cut(max(0, budget - members))

    def _set_drafts(self, drafts: Any) -> None:
        if drafts.__class__ is not int or drafts < 0:
            raise ConfigError(
                f"speculation: {drafts!r} drafted tokens for {len(self.members)} requests ('{type(self.speculation).__name__}')"
            )
        self.drafts = drafts
        self._most_tokens = 1 + self.speculation.most_drafted(drafts) if drafts else 1
        self._follow_again()

    def _follow_again(self) -> None:
        for member in self._by_row.values():
            self._forget(member)
            self._follow(member, None)

    def _cut(self, drafted: int) -> None:
        """The members, in the order in which they joined, draft no more than so many tokens together in the coming step."""
        self._capped = self.tick
        for member in self._by_row.values():
            wanted = member.drafted(self.tick)
            if wanted > drafted:
                self._forget(member)
                self._follow(member, None, drafted)
                wanted = member.drafted(self.tick)
            drafted -= wanted

    # -- questions -----------------------------------------------------------------------------------------------------------------

    def computed_after(self, request: LiveRequest, steps: int) -> int:
        """Tokens that a member has in the KV cache so many ticks from now."""
        member = self._by_row[request.row]
        return member.computed + member.gained_by(self.tick + steps)

    def most_gained(self, request: LiveRequest, steps: int) -> int:
        """Most tokens that a member may get in the step so many ticks from now: one, and those drafted for it."""
        return 1 + self._by_row[request.row].drafted(self.tick + steps)

    def computed_tokens(self, request: Request) -> int:
        """Tokens that a member has in the KV cache now."""
        member = self._by_row[request.row]
        return member.computed + member.gained_by(self.tick)

    def generated_tokens(self, request: Request) -> int:
        """Tokens that a member has emitted by now."""
        member = self._by_row[request.row]
        return member.generated + member.gained_by(self.tick)

    def most_tokens(self, request: LiveRequest) -> int:
        """Most tokens of a sequence, cached ones and those of a step, when a request joins that is no member."""
        return min(request.computed_tokens + self._most_tokens, self._memory.limit_tokens)

    def context_tokens(self) -> int:
        """Tokens attended by the last queries of the members at the next tick."""
        return int(self._table[CONTEXT, self.tick - self._origin])

    def next_tokens(self) -> int:
        """Tokens that the members compute at the next tick, the drafted ones as things stand."""
        return len(self.members) + int(self._table[DRAFTED, self.tick - self._origin])

    def longest_tokens(self) -> int:
        """Largest context at the next tick; 0 when the group is empty."""
        self._know_longest()
        return int(self._longest[self.tick - self._origin])

    def contexts(self) -> list[int]:
        """Attended tokens of each member at the next tick."""
        return self.each(0)[0]

    def widths(self) -> list[int]:
        """Tokens that each member computes at the next tick."""
        return self.each(0)[1]

    def each(self, ahead: int) -> tuple[list[int], list[int]]:
        """Attended tokens and computed tokens of each member, so many ticks after the next one."""
        tick = self.tick + ahead
        contexts = [int(member.columns[CONTEXT, tick - member.first_tick]) for member in self._by_row.values()]
        return contexts, [1 + member.drafted(tick) for member in self._by_row.values()]

    def draft_passes(self) -> int:
        """Forward passes of the draft at the next tick."""
        return self.speculation.passes(self.drafts) if self.drafts and self.members else 0

    def describe(self, step: Step) -> None:
        """Writes into a step what it is of the members at the next tick, whose blocks they have taken."""
        coming = self._coming
        step.drafted_tokens, step.context_tokens = coming[DRAFTED], coming[CONTEXT]
        step.longest_tokens, step.draft_passes = self.longest_tokens(), self.draft_passes()

    def steps_ahead(self, steps: int) -> DecodeSteps:
        """The coming ticks as steps to be priced."""
        if not self._longest_known:
            self._know_longest()
        begin = self.tick - self._origin
        end, passes = begin + steps, self.draft_passes()
        if self._passes[0] != passes or len(self._passes) < steps:
            self._passes = np.full(max(steps, _FIRST_TICKS), passes, dtype=np.int64)
        drafted, context = self._table[DRAFTED, begin:end], self._table[CONTEXT, begin:end]
        return DecodeSteps(len(self.members), drafted, self._passes[:steps], context, self._longest[begin:end], self.each)

    def columns(self, steps: int) -> bytes:
        """Drafted, accepted, attended tokens and pairs of the coming ticks, one after the other, as 64-bit integers."""
        begin = self.tick - self._origin
        return self._table[:DURING, begin : begin + steps].T.tobytes()

    # -- memory --------------------------------------------------------------------------------------------------------------------

    def blocks_needed(self) -> int:
        """New KV blocks needed before the next tick."""
        return int(self._table[DURING, self.tick - self._origin]) - self._held

    def took(self) -> int:
        """The blocks of the next tick are the members' now. Returns the tokens that they compute in it."""
        self._coming = coming = self._table[:, self.tick - self._origin].tolist()
        self._held = coming[DURING]
        return len(self.members) + int(coming[DRAFTED])

    @property
    def frees(self) -> bool:
        """Whether blocks are given back from step to step."""
        return self._memory.frees

    def steps_within(self, free_blocks: int, steps: int) -> int:
        """How many of the next `steps` ticks can run when the first tick's blocks are already allocated and `free_blocks` are left."""
        begin = self.tick - self._origin
        during = self._table[DURING, begin : begin + steps]
        most = self._held + free_blocks
        if during[-1] <= most and not self._memory.frees:  # it grows from step to step
            return steps
        return _first(during > most, steps)

    def steps_alike(self, budget: int | None, others: bool, steps: int) -> int:
        """How many of the next `steps` ticks a policy would plan as it has planned the first: they stay within its token budget, and
        while `others` wait for tokens or memory, they leave no more of them."""
        members = len(self.members)
        if not others and (budget is None or members * self._most_tokens <= budget):
            return steps
        begin = self.tick - self._origin
        drafted, during = self._table[DRAFTED, begin : begin + steps], self._table[DURING, begin : begin + steps]
        if budget is not None:
            steps = _first(drafted > max(budget - members, int(drafted[0])), steps)
        if others:
            steps = _first((drafted != drafted[0]) | (during < during[0]), steps)
        return steps

    def growth_over(self, steps: int) -> int:
        """New blocks needed by the `steps` ticks that follow the next one, when what they free has been freed."""
        begin = self.tick - self._origin
        return int(self._table[DURING, begin + steps] - self._table[DURING, begin])

    def advance(self, steps: int) -> int:
        """So many ticks have passed. Returns the blocks of rejected tokens that are free again."""
        last = self.tick - self._origin + steps - 1
        self.tick += steps
        during = int(self._table[DURING, last])
        self._held = int(self._table[AFTER, last]) if self._memory.frees else during
        return during - self._held

    def held_blocks(self, request: LiveRequest, ahead: int) -> int:
        """Blocks of a member's table, in a step in progress (`ahead` 1) or between two."""
        member = self._by_row[request.row]
        done = self.tick - member.first_tick
        return int(member.table[done]) if ahead else member.held_after(done, self._memory)

    def steps_to_next_change(self) -> int:
        """Ticks up to and including the one at which the next member emits its last token; 1 where the budget cuts what is drafted."""
        return 1 if self._capped == self.tick else super().steps_to_next_change()

    # ------------------------------------------------------------------------------------------------------------------------------

    def _follow(self, member: Member, output_tokens: int | None, first: int | None = None) -> None:
        """Takes up the course of a member from the next tick on; its steps so far stay. None: its output is what it was."""
        request, done = member.request, self.tick - member.first_tick
        if output_tokens is None:
            output_tokens = int(member.before[-1])
        generated = int(member.before[done]) if done else member.generated
        left = output_tokens - generated
        if self.drafts:
            course = self.speculation.course(request.row, generated, output_tokens, self.drafts, first)
            if course.before is None and (wrong := fault(course, left, first, self._most_tokens - 1)):
                name = type(self.speculation).__name__
                raise ConfigError(f"speculation: the course of request {request.row} ('{name}', {self.drafts} drafts in a row) {wrong}")
        else:
            course = Course(np.ones(left, dtype=np.int64), np.zeros(left, dtype=np.int64))
        member.follow(done, course, self._most_tokens - 1, self._memory)
        steps, columns = len(course.tokens), member.columns[:, done:] if done else member.columns
        begin = self.tick - self._origin
        if begin + steps >= self._table.shape[1]:
            self._reserve(steps)
            begin = 0
        part = self._table[:, begin : begin + steps]
        part += columns
        if self._longest_known:
            longest = self._longest[begin : begin + steps]
            np.maximum(longest, columns[CONTEXT], out=longest)
        finish = self.tick + steps - 1
        self._finish[request.row] = finish
        heappush(self._endings, (finish, request.row, request.admission, request))

    def _forget(self, member: Member) -> None:
        """Takes what is left of a member's course out of the table."""
        done = self.tick - member.first_tick
        if done < len(member.tokens):
            left = member.columns[:, done:]
            begin = self.tick - self._origin
            self._table[:, begin : begin + left.shape[1]] -= left
            self._longest_known = False

    def _know_longest(self) -> None:
        if not self._longest_known:
            begin = self.tick - self._origin
            self._longest[begin:] = 0
            for member in self._by_row.values():
                left = member.columns[CONTEXT, self.tick - member.first_tick :]
                part = self._longest[begin : begin + len(left)]
                np.maximum(part, left, out=part)
            self._longest_known = True

    def _reserve(self, steps: int) -> None:
        """Makes a table that begins with the next tick and reaches so many beyond it."""
        begin = self.tick - self._origin
        size = max(_FIRST_TICKS, 2 * (steps + 1), 2 * (self._table.shape[1] - begin))
        table, longest = np.zeros((len(self._table), size), dtype=np.int64), np.zeros(size, dtype=np.int64)
        kept = self._table.shape[1] - begin
        table[:, :kept], longest[:kept] = self._table[:, begin:], self._longest[begin:]
        self._table, self._longest, self._origin = table, longest, self.tick

    def totals(self) -> list[int | None]:
        """For checks: the rows of the table at the next tick, and the longest context (None = to be found again)."""
        place = self.tick - self._origin
        return [*self._table[:, place].tolist(), int(self._longest[place]) if self._longest_known else None]

    def recounted(self) -> list[int | None]:
        """For checks: the same, added up from the members."""
        done = [(member, self.tick - member.first_tick) for member in self._by_row.values()]
        rows = [sum(int(member.columns[row, steps]) for member, steps in done) for row in range(len(self._table))]
        size = self.block_tokens
        tables = [max(int(member.table[steps]), -(-int(member.columns[CONTEXT, steps]) // size)) for member, steps in done]
        rows[DURING] = sum(self._memory.owned(table) for table in tables)
        return [*rows, max((int(member.columns[CONTEXT, steps]) for member, steps in done), default=0)]


def _first(over: I64 | np.ndarray, steps: int) -> int:
    """The first place at which something holds, `steps` if it holds nowhere."""
    place = int(np.argmax(over)) if len(over) else 0
    return min(place, steps) if len(over) and over[place] else steps
