"""The decoding requests of a lane, advanced as a group: a step costs a few additions whatever the number of requests.

The group counts *ticks* (steps in which it decoded). A member that joined with c computed tokens at tick t keeps `base = c - t`; its
computed tokens at tick u are `base + u`. So one addition to the tick advances every member, sums are kept as sums of bases, and a member
needs a KV block at the ticks u where `base + u` is a multiple of the block size: a histogram of `base mod block` answers how many do.
Where some layers keep a window (`groups`), the histogram counts the blocks of the pool that a member takes then: fewer, once its table is
as long as a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from simserve.compiled import mypyc_attr
from simserve.contracts import Request
from simserve.engine.kv_groups import KvGroups
from simserve.engine.request import LiveRequest, State

NO_END = 1 << 60

_DECODING = State.DECODING  # read in a third of the time of an enumeration's attributes


@mypyc_attr(allow_interpreted_subclasses=True)
class DecodeGroup:
    """Members, their total context and the blocks they will need. `tick` is the number of the next tick."""

    __slots__ = (
        "_endings",
        "_finish",
        "_full_windows",
        "_later",
        "_longest_base",
        "block_tokens",
        "groups",
        "growth",
        "members",
        "sum_base",
        "tick",
    )

    def __init__(self, block_tokens: int, groups: KvGroups | None = None) -> None:
        self.block_tokens = block_tokens
        self.groups = groups
        self.members: dict[int, LiveRequest] = {}
        self.tick = 0
        self.sum_base = 0
        self.growth = [0] * block_tokens
        """growth[u mod block_tokens] = blocks that members need before tick u."""
        self._longest_base: int | None = None  # None = to be found again: the longest member has left
        self._finish: dict[int, int] = {}  # tick of each member's last token: not on the request, policies must not see it
        self._endings: list[tuple[int, int, int, LiveRequest]] = []
        # Tick, row, window that is full from then on (-1: starts to grow), admission: a twin that comes back (`seen_by`) is no tie.
        self._later: list[tuple[int, int, int, int, LiveRequest]] = []
        self._full_windows: dict[int, int] = {}  # of each member that grows, windows that need no more; only with groups

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[LiveRequest]:
        return iter(self.members.values())

    def join(self, request: LiveRequest, output_tokens: int, grows: bool) -> None:
        """Adds a request whose computed, generated and held counts are up to date, to decode from the next tick on.

        `output_tokens` is the (hidden) number of tokens at which it ends. `grows` = False when it holds enough blocks to its end.
        """
        tick = self.tick
        base = request.computed_tokens - tick
        request.state = _DECODING
        request.base_computed = base
        request.base_generated = request.generated_tokens - tick
        request.first_tick = tick
        request.grows = grows
        self._finish[request.row] = finish = tick + output_tokens - request.generated_tokens - 1
        self.members[request.row] = request
        self.sum_base += base
        if grows:
            first_need = request.held_blocks * self.block_tokens - base
            if first_need - tick >= self.block_tokens:  # it reserved more than it has computed: it starts to grow when that is used up
                request.grows = False
                heappush(self._later, (first_need, request.row, -1, request.admission, request))
            elif self.groups is None:
                self.growth[first_need % self.block_tokens] += 1
            else:
                self._grow(request, self.groups)
        if len(self.members) == 1 or (self._longest_base is not None and base > self._longest_base):
            self._longest_base = base
        heappush(self._endings, (finish, request.row, request.admission, request))

    def leave(self, request: LiveRequest) -> None:
        """Takes a member out and brings its computed, generated and held counts up to date."""
        tick = self.tick
        base = request.base_computed
        del self.members[request.row], self._finish[request.row]
        self.sum_base -= base
        request.computed_tokens = computed = base + tick
        request.generated_tokens = request.base_generated + tick
        if request.grows:
            request.held_blocks = held = -(-computed // self.block_tokens)
            if self.groups is None:
                self.growth[-base % self.block_tokens] -= 1
            else:
                self.growth[-base % self.block_tokens] -= self.growth_of(request)
                del self._full_windows[request.row]
                request.beside_blocks = self.groups.beside(held, True)
        if base == self._longest_base:
            self._longest_base = None
        if not self.members or len(self._endings) > 4 * len(self.members) + 64:
            self._trim_endings()

    def _trim_endings(self) -> None:
        """Forgets ends of requests that have left, where there are many."""
        if not self.members:
            self._endings.clear()
        elif len(self._endings) > 4 * len(self.members) + 64:
            self._endings = [entry for entry in self._endings if self._is_current(entry)]
            heapify(self._endings)

    def computed_after(self, request: LiveRequest, steps: int) -> int:
        """Tokens that a member has in the KV cache so many ticks from now."""
        return request.base_computed + self.tick + steps

    def most_gained(self, request: LiveRequest, steps: int) -> int:
        """Most tokens that a member may get in the step so many ticks from now: one, and those drafted for it."""
        return 1

    def contexts(self) -> list[int]:
        """Attended tokens of each member at the next tick, in the order in which they joined."""
        attended = self.tick + 1
        return [request.base_computed + attended for request in self.members.values()]

    def computed_tokens(self, request: Request) -> int:
        """Tokens that a member has in the KV cache now."""
        return self.members[request.row].base_computed + self.tick

    def generated_tokens(self, request: Request) -> int:
        """Tokens that a member has emitted by now."""
        return self.members[request.row].base_generated + self.tick

    def context_tokens(self) -> int:
        """Tokens attended at the next tick, summed over the members (each attends its cached tokens and its own)."""
        return self.sum_base + len(self.members) * (self.tick + 1)

    def next_tokens(self) -> int:
        """Tokens that the members compute at the next tick."""
        return len(self.members)

    def longest_tokens(self) -> int:
        """Largest context at the next tick; 0 when the group is empty."""
        base = self._longest_base
        if base is None:
            if not self.members:
                return 0
            self._longest_base = base = max([request.base_computed for request in self.members.values()])
        return base + self.tick + 1

    def blocks_needed(self) -> int:
        """New KV blocks needed before the next tick."""
        if self._later:
            self._start_growing()
        return self.growth[self.tick % self.block_tokens]

    def blocks_of(self, request: LiveRequest) -> int:
        """New KV blocks that a member needs before the next tick."""
        if self._later:
            self._start_growing()
        grows = request.grows and not (request.base_computed + self.tick) % self.block_tokens
        return self.growth_of(request) if grows else 0

    def steps_within(self, free_blocks: int, steps: int) -> int:
        """How many of the next `steps` ticks can run when the first tick's blocks are already allocated and `free_blocks` are left."""
        per_cycle = sum(self.growth)
        size = self.block_tokens
        if free_blocks >= per_cycle * (1 + steps // size):
            return steps
        cycles, left = divmod(free_blocks, per_cycle)
        done = cycles * size
        while done + 1 < steps:
            left -= self.growth[(self.tick + done + 1) % size]
            if left < 0:
                break
            done += 1
        return min(done + 1, steps)

    def growth_over(self, steps: int) -> int:
        """New blocks needed by the `steps` ticks that follow the next one (that is ticks tick + 1 .. tick + steps)."""
        size = self.block_tokens
        cycles, rest = divmod(steps, size)
        growth = self.growth
        total = cycles * sum(growth) if cycles else 0
        first = (self.tick + 1) % size
        last = first + rest
        total += sum(growth[first:last])
        return total if last <= size else total + sum(growth[: last - size])

    def steps_to_next_change(self) -> int:
        """Ticks up to and including the one at which the next member emits its last token (or just before one starts to need blocks, or
        other numbers of them)."""
        endings = self._endings
        while endings:
            finish, row, _, request = endings[0]
            if self._finish.get(row) == finish and self.members[row] is request:  # is it current?
                steps = finish - self.tick + 1
                return steps if not self._later else min(steps, self._later[0][0] - self.tick)
            heappop(endings)
        return NO_END

    def growth_of(self, request: LiveRequest) -> int:
        """Blocks that a member which grows takes with each block of its table."""
        groups = self.groups
        if groups is None:
            return 1
        return groups.per_block - sum(window.pool_blocks for window in groups.windows[: self._full_windows[request.row]])

    def _grow(self, request: LiveRequest, groups: KvGroups) -> None:
        """A member takes blocks from the end of its table on."""
        held = request.held_blocks
        self._full_windows[request.row] = full = sum(window.decode_blocks <= held for window in groups.windows)
        self.growth[-request.base_computed % self.block_tokens] += self.growth_of(request)
        self._expect_full(request, groups, full)

    def _expect_full(self, request: LiveRequest, groups: KvGroups, window: int) -> None:
        """Notes the tick at which a member would need one block more than the next window keeps."""
        if window < len(groups.windows):
            tick = groups.windows[window].decode_blocks * self.block_tokens - request.base_computed
            heappush(self._later, (tick, request.row, window, request.admission, request))

    def _start_growing(self) -> None:
        """Members whose reservation ends with the coming ticks grow like the others from now on, those whose window is full grow less."""
        groups, size = self.groups, self.block_tokens
        while self._later and self._later[0][0] - self.tick < size:
            need, row, window, _, request = heappop(self._later)
            if self.members.get(row) is not request:
                continue
            if window >= 0 and groups is not None:
                known = request.grows and self._full_windows[row] == window
                if known and groups.windows[window].decode_blocks * size - request.base_computed == need:
                    self.growth[need % size] -= groups.windows[window].pool_blocks
                    self._full_windows[row] = window + 1
                    self._expect_full(request, groups, window + 1)
            elif request.held_blocks * size - request.base_computed == need and not request.grows:
                request.grows = True
                if groups is None:
                    self.growth[need % size] += 1
                else:
                    self._grow(request, groups)

    def pop_ended(self) -> list[LiveRequest]:
        """Takes out the members that emitted their last token before the next tick, in order (tick, row)."""
        ended: list[LiveRequest] = []
        endings = self._endings
        while endings and endings[0][0] < self.tick:
            entry = heappop(endings)
            if self._is_current(entry):
                self.leave(entry[3])
                ended.append(entry[3])
        return ended

    def _is_current(self, entry: tuple[int, int, int, LiveRequest]) -> bool:
        """False for entries of requests that left (preempted), also if they have joined again with another end."""
        finish, row, _, request = entry
        return self._finish.get(row) == finish and self.members[row] is request
