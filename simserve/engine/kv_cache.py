"""The KV cache of an instance as counts of blocks (PagedAttention, arXiv 2309.06180, section 4), changed by verbs that keep I3.

Where layers keep different tokens (`groups`), a block of a request's table is not a block of the pool: `blocks` of the table of a request
(`held_blocks`) take `KvGroups.pool_blocks`. All counts here are of the pool, `held_blocks` alone is of the table.

Contents that a prefix cache keeps and shares are those of layers that keep every token. Windows are a request's own: in vLLM a hit needs
the blocks of the last window too (docs/design/hybrid_kv_cache_manager.md, "Prefix caching", case 2), which lie in the same pool and are the
first to be forgotten there; here a hit finds them for free, and its request takes a window of its own from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simserve.contracts import Slice
from simserve.engine.kv_groups import KvGroups
from simserve.engine.prefix_cache import PrefixIndex
from simserve.engine.radix_contents import RadixContents
from simserve.engine.request import LiveRequest, State
from simserve.errors import InvariantError


class KvCache:
    """Blocks on the devices and on the host; no other file writes a count of them. Owners know their own (`request.held_blocks`).

    total_blocks      blocks of the instance (each `block_tokens` tokens of all layers on all ranks; with `groups`, of a group of layers)
    watermark_blocks  free blocks an admission must leave (against preempting soon after); growth of running requests may use them
    host_total_blocks  blocks of host memory for requests that are swapped out
    prefix            contents of prompts that are kept, None without prefix caching
    radix             the same index, if it keeps whole sequences
    groups            how a block table is kept where layers differ; None = all layers keep every token
    finds_own         makes the index by which requests that come back find what they computed, where the workload tells no contents; None =
                      they do not. It is made when the first of them has been preempted: before, there is nothing to be found
    elsewhere         blocks held here for requests that run nowhere, by row: prefilled and not yet copied, or on their way here

    Verbs that answer False have changed nothing. Contents without users are forgotten as soon as a verb takes their blocks.
    """

    __slots__ = (
        "_coming",
        "_free",
        "_host_free",
        "_used",
        "block_tokens",
        "elsewhere",
        "finds_own",
        "groups",
        "host_total_blocks",
        "prefix",
        "radix",
        "total_blocks",
        "watermark_blocks",
    )

    def __init__(
        self,
        total_blocks: int,
        block_tokens: int,
        watermark_blocks: int,
        host_blocks: int,
        prefix: PrefixIndex | None = None,
        groups: KvGroups | None = None,
    ) -> None:
        self.total_blocks = total_blocks
        self.block_tokens = block_tokens
        self.watermark_blocks = watermark_blocks
        self.host_total_blocks = host_blocks
        self.prefix = prefix
        self.radix = prefix if isinstance(prefix, RadixContents) else None
        self.groups = groups
        self.finds_own: Callable[[], PrefixIndex] | None = None
        self.elsewhere: dict[int, int] = {}
        self._coming: dict[int, int] = {}  # blocks of the tables of those on their way here, by row; only with groups
        self._free = total_blocks
        self._used = 0  # counted apart: what writes one of the two alone is found by `adds_up`
        self._host_free = host_blocks

    # -- questions -----------------------------------------------------------------------------------------------------------------

    def table(self, tokens: int) -> int:
        """Blocks of a block table of so many tokens."""
        return -(-tokens // self.block_tokens)

    def blocks(self, tokens: int, decodes: bool = False) -> int:
        """Blocks that a sequence of `tokens` tokens holds, while its prompt is computed or while it `decodes`."""
        table = -(-tokens // self.block_tokens)
        return table if self.groups is None else self.groups.pool_blocks(table, decodes)

    def owned(self, request: LiveRequest) -> int:
        """Blocks of a request whose counts are up to date, those included that it shares."""
        return request.held_blocks if self.groups is None else self.groups.full * request.held_blocks + request.beside_blocks

    @property
    def free_blocks(self) -> int:
        """Blocks that no request owns; kept contents without users are among them."""
        return self._free

    @property
    def used_blocks(self) -> int:
        """Blocks owned by requests."""
        return self._used

    @property
    def host_free_blocks(self) -> int:
        """Space on the host for requests that are swapped out."""
        return self._host_free

    @property
    def spare_blocks(self) -> int:
        """Free blocks that can be taken before contents are forgotten."""
        return self._free if self.prefix is None else self.prefix.spare(self._free)

    def spare_beside(self, decodes: int) -> int:
        """Free blocks that steps of so many decodes can take before contents are forgotten, for which `settle` wants a block more for each;
        below 0, the next step forgets some."""
        spare = self.spare_blocks
        return spare if self.radix is None or self.block_tokens == 1 else spare - decodes

    def fits(self, blocks: int, grown: int = 0) -> bool:
        """Whether so many blocks can be taken above the watermark. `grown` = blocks that steps of a span in progress have taken already."""
        return self._free - grown - blocks >= self.watermark_blocks

    def adds_up(self) -> bool:
        """Whether the free and the used blocks are the blocks there are."""
        return self._free + self._used == self.total_blocks

    def cached_tokens(self, request: LiveRequest) -> int:
        """Prompt tokens that an admission now would find kept here."""
        return 0 if self.prefix is None else self.prefix.tokens(self.prefix.match(request))

    def look_up(self, request: LiveRequest, whole: bool = False) -> int:
        """The same, by a scheduler that looks at the request: an index of whole sequences counts what it finds as used. `whole` = with the
        last token."""
        return self.cached_tokens(request) if self.radix is None else self.radix.refresh(request, whole)

    def settle(self, slices: Sequence[Slice], decodes: int, grown: int) -> None:
        """A step has its memory, `grown` blocks of it for so many `decodes`: an index of whole sequences forgets what has no place.

        With blocks of several tokens SGLang makes room for a page more than each slice may need, and for a page of each decode
        (mem_cache/allocation.py lines 162 and 572, alloc_paged_token_slots_extend and _decode).
        """
        radix, size = self.radix, self.block_tokens
        if radix is None:
            return
        if size > 1:
            ends = [(one.context_tokens, one.context_tokens + one.new_tokens) for one in slices]
            margin = sum([size + end - start - (-(-end // size) + -start // size) * size for start, end in ends])
            radix.evict(max(0, self._free + grown - max(-(-margin // size), decodes)))
        radix.settle()

    def evict(self, blocks: int) -> None:
        """Forgets contents without users until so many blocks are free of any, if the index keeps whole sequences."""
        if self.radix is not None:
            self.radix.evict(max(0, self._free - blocks))

    def shared_blocks(self, request: LiveRequest) -> int:
        """Of the blocks of a request, those that are counted once for all who use their contents."""
        return 0 if self.prefix is None else self.prefix.shared(request)

    def arriving(self, blocks: int, before: int = 0, last: bool = True) -> int:
        """Blocks that `blocks` more blocks of a table take which has `before` of them here; windows and state come with the `last` ones."""
        if self.groups is None:
            return blocks
        return self.groups.full * blocks + (self.groups.beside(before + blocks, True) if last else 0)

    def table_here(self, row: int) -> int:
        """Blocks of the table of a request on its way here that are reserved."""
        return self.elsewhere[row] if self.groups is None else self._coming[row]

    # -- taking --------------------------------------------------------------------------------------------------------------------

    def admit(self, request: LiveRequest, blocks: int, room: int = 0, below: bool = False) -> bool:
        """Gives a newcomer a table of `blocks` blocks above the watermark (or `below` it), where one of `room` blocks would find place.
        Contents of its prompt that are kept here count as computed."""
        prefix, groups = self.prefix, self.groups
        match = found = shared = idle = 0
        if request.computed_tokens:  # it has credit (StepPlan.preempt)
            found = request.computed_tokens
        elif prefix is not None and (request.prefix_ids or prefix.outputs is not None or request.preemptions):
            match = prefix.match(request)
            found, shared = prefix.tokens(match), prefix.blocks(match)
            idle = prefix.blocks_to_pin(request, match)
        new = max(blocks, -(-found // self.block_tokens)) - shared
        if groups is None:
            taken = new + idle
        else:
            beside = groups.beside(new + shared, False)
            taken = groups.full * new + idle + beside
        more = 0
        if room > new + shared:
            more = room - new - shared if groups is None else groups.pool_blocks(room, False) - groups.pool_blocks(new + shared, False)
        if self._free - taken - more < (0 if below else self.watermark_blocks):
            return False
        self._free -= taken
        self._used += taken
        request.held_blocks = new + shared
        if groups is not None:
            request.beside_blocks = beside
        if prefix is not None:
            if match:
                prefix.pin(request, match)
                request.computed_tokens = found
            prefix.trim(self._free)
        return True

    def grow(self, request: LiveRequest, tokens: int) -> bool:
        """Makes a request hold a table for `tokens` tokens in all."""
        more = -(-tokens // self.block_tokens) - request.held_blocks
        if more > 0:
            if self.groups is not None:
                return self._grow(request, more, self.groups)
            if not self.take(more):
                return False
            request.held_blocks += more
        return True

    def _grow(self, request: LiveRequest, more: int, groups: KvGroups) -> bool:
        # Drafted tokens that are verified are few: a request that has decoded keeps no more of its windows for them.
        decodes = request.state is State.DECODING or request.state is State.VERIFYING
        beside = groups.beside(request.held_blocks + more, decodes)
        if not self.take(groups.full * more + beside - request.beside_blocks):
            return False
        request.held_blocks += more
        request.beside_blocks = beside
        return True

    def take(self, blocks: int) -> bool:
        """Takes blocks for running requests; the watermark may be used. Their requests' counts are the caller's concern (DecodeGroup)."""
        if blocks > self._free:
            return False
        self._free -= blocks
        self._used += blocks
        if self.prefix is not None:
            self.prefix.trim(self._free)
        return True

    def reserve(self, row: int, blocks: int, last: bool = True) -> None:
        """Takes what `arriving` says for `blocks` more blocks of the table of a request on its way here. The caller has asked whether
        that `fits`; InvariantError when it does not."""
        taken = blocks
        if self.groups is not None:
            before = self._coming.get(row, 0)
            taken = self.arriving(blocks, before, last)
            self._coming[row] = before + blocks
        if not self.take(taken):
            raise InvariantError(f"invariant I3 is broken: {taken} KV blocks are reserved for request {row} and {self._free} are free")
        self.elsewhere[row] = self.elsewhere.get(row, 0) + taken

    # -- giving back ---------------------------------------------------------------------------------------------------------------

    def release(self, request: LiveRequest, gone: bool = False, unknown: int = 0) -> None:
        """Frees the blocks of a request; contents it shares stay for the others and, while the space is not needed, for later ones. One
        that is not `gone` will come back for its own. Of the last `unknown` tokens it is not known yet what they are."""
        if self.finds_own and self.prefix is None and not gone:
            self.prefix = self.finds_own()
            self.prefix.trim(self._free)
        blocks = request.held_blocks
        if self.groups is not None:
            blocks = self.groups.full * blocks + request.beside_blocks
            request.beside_blocks = 0
        if self.prefix is not None:
            if self.prefix.when_planned:
                self.prefix.offer(request, request.computed_tokens - unknown)
            elif self.prefix.outputs is not None and self.radix is None:
                self.prefix.add(request)
            blocks -= self.prefix.shared(request)
            blocks += self.prefix.release(request, gone)
        if not 0 <= blocks <= self._used:
            raise InvariantError(f"invariant I3 is broken: {blocks} KV blocks are freed and {self._used} are in use")
        self._free += blocks
        self._used -= blocks
        request.held_blocks = 0

    def decode(self, request: LiveRequest) -> None:
        """Frees what windows kept beside their length while the prompt of a request was computed. Only with groups."""
        assert self.groups is not None
        beside = self.groups.beside(request.held_blocks, True)
        freed = request.beside_blocks - beside
        self._free += freed
        self._used -= freed
        request.beside_blocks = beside

    def give_back(self, blocks: int) -> None:
        """Frees blocks that running requests had for a step and do not keep. Their requests' counts are the caller's concern."""
        self._free += blocks
        self._used -= blocks

    def give_up(self, request: LiveRequest, grown: int) -> None:
        """Frees the blocks of a request whose client has given up, in the middle of steps; `grown` as in `fits`."""
        self._forget_taken(grown)
        self.release(request)

    def cancel(self, row: int, grown: int) -> bool:
        """Frees what is reserved for a request that will not come; False when that is nothing. `grown` as in `fits`."""
        self._coming.pop(row, None)
        blocks = self.elsewhere.pop(row, 0)
        if not blocks:
            return False
        self._forget_taken(grown)
        self._free += blocks
        self._used -= blocks
        return True

    def clear(self) -> None:
        """Everything is lost, on the host too (the instance has died)."""
        self.elsewhere.clear()
        self._coming.clear()
        if self.prefix is not None:
            self.prefix.clear()
        self._free, self._used, self._host_free = self.total_blocks, 0, self.host_total_blocks

    # -- the host ------------------------------------------------------------------------------------------------------------------

    def swap_out(self, request: LiveRequest) -> bool:
        """Moves the blocks of a request to the host, if there is room."""
        held, beside, owned = request.held_blocks, request.beside_blocks, self.owned(request)
        if owned > self._host_free:
            return False
        self.release(request)
        self._host_free -= owned
        request.held_blocks, request.beside_blocks = held, beside
        return True

    def swap_in_for(self, request: LiveRequest, tokens: int) -> bool:
        """Brings the blocks of a request back above the watermark, in a table for so many tokens."""
        owned = self.owned(request)
        table = max(request.held_blocks, self.table(tokens))
        taken = self.blocks(table * self.block_tokens, decodes=True)
        if not self.fits(taken):
            return False
        self._host_free += owned
        request.held_blocks = table
        if self.groups is not None:
            request.beside_blocks = self.groups.beside(table, True)
        return self.take(taken)

    def swap_in(self, request: LiveRequest) -> bool:
        """Brings the blocks of a request back above the watermark, with the one of its next token."""
        need = max(request.held_blocks, self.table(request.computed_tokens + 1))
        if self.groups is not None:
            need = self.groups.pool_blocks(need, True)
        if not self.fits(need):
            return False
        self._host_free += self.owned(request)
        return self.take(need)

    def drop(self, request: LiveRequest) -> None:
        """Frees the host's blocks of a request that was swapped out and will not come back."""
        self._host_free += self.owned(request)
        request.held_blocks = request.beside_blocks = 0

    # -- between instances ---------------------------------------------------------------------------------------------------------

    def set_aside(self, request: LiveRequest) -> None:
        """The blocks of a request stay here while the request runs nowhere."""
        self.elsewhere[request.row] = self.owned(request) - self.shared_blocks(request)

    def take_back(self, request: LiveRequest) -> None:
        """A request that was set aside goes on here."""
        del self.elsewhere[request.row]

    def release_set_aside(self, request: LiveRequest, grown: int) -> None:
        """Frees the blocks of a request that was set aside: its KV is where it is needed. `grown` as in `fits`."""
        del self.elsewhere[request.row]
        self._forget_taken(grown)
        self.release(request)

    def receive(self, request: LiveRequest) -> None:
        """The KV of a request has come: what was reserved for it is what it holds."""
        blocks = self.elsewhere.pop(request.row)
        if self.groups is None:
            request.held_blocks = blocks
        else:
            request.held_blocks = table = self._coming.pop(request.row)
            request.beside_blocks = blocks - self.groups.full * table

    # ------------------------------------------------------------------------------------------------------------------------------

    def _forget_taken(self, grown: int) -> None:
        """Before blocks come back: what survives must not depend on when it is looked at."""
        if self.prefix is not None:
            self.prefix.trim(self._free - grown)
