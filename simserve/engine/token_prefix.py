"""Prefix matching token by token: matches of any length are reused, the partial block at their end by a copy.

After XY-Serve (arXiv 2412.18106): a radix tree over tokens lies on top of KV in blocks. What two requests share in whole blocks they share
as it is. The block in which they part is copied for the second, which writes behind the tokens that are alike (copy on write). The copy
takes a block of memory. Its time is left out: at most one block is copied an admission, a few MB at memory bandwidth, microseconds.

Contents are known as ids of runs of tokens, as far as the workload tells them (`PrefixBlocks`): two requests are taken to part where their
ids do, so a match can end within a run only where one of the two ends there. Runs and KV blocks may have any sizes.
"""

from __future__ import annotations

from typing import NamedTuple

from simserve.engine.kept_contents import KeptContents
from simserve.engine.prefix_cache import Contents
from simserve.engine.request import LiveRequest


class KeptBlock(NamedTuple):
    """A block of KV by what it holds.

    key  of the run in which it ends: a key stands for a run and all before it (`PrefixBlocks.chained`)
    end  tokens from the beginning of the sequence to its last one; no multiple of the block size: a tail, filled in part
    """

    key: int
    end: int


class TokenPrefixCache:
    """The index of one instance that matches token by token. A match is a number of tokens.

    Requests use whole blocks (`LiveRequest.pinned_ids`), each counted once, and keep the block that they are filling: it is found by others
    as far as it is filled, and goes on as theirs. A block that is copied is not used by it: what is forgotten next is unchanged. The copy,
    with what is written behind it, is the later content of the two.

    block_tokens  tokens of a KV block
    run_tokens    tokens that an id stands for
    outputs       as in PrefixCache
    pool_blocks   blocks of the pool that a block of tokens takes (KvGroups.full; at least 1)
    """

    when_planned = False

    def __init__(self, block_tokens: int, run_tokens: int, outputs: Contents | None = None, pool_blocks: int = 1) -> None:
        self.block_tokens = block_tokens
        self.run_tokens = run_tokens
        self.outputs = outputs
        self.pool_blocks_per_id = pool_blocks
        self._kept: KeptContents[KeptBlock] = KeptContents()
        self._keys_of: dict[KeptBlock, list[int]] = {}
        """Of each kept block, the keys of the runs that it has tokens of."""
        self._reach: dict[tuple[int, int], dict[int, int]] = {}
        """(number of a block in its sequence, key of a run): where kept blocks end in this run, and how many do there."""

    def match(self, request: LiveRequest) -> int:
        """Leading tokens of the request that are in kept blocks, leaving at least one to compute."""
        size, run = self.block_tokens, self.run_tokens
        keys = self._keys(request, request.target_tokens - 1)
        most = min(request.target_tokens - 1, self._told(request, len(keys)))
        end, users, idle = size, self._kept.users, self._kept.idle
        while end <= most:
            block = KeptBlock(keys[(end - 1) // run], end)
            if block not in users and block not in idle:
                break
            end += size
        found = end - size  # in whole blocks; and as many of the next one as some kept block begins with
        limit = min(end, most)
        while found < limit:
            place = found // run
            ends = self._reach.get(((end - 1) // size, keys[place]))
            if not ends:
                break
            found = min(limit, max(ends))
            if found < (place + 1) * run:
                break
        return found

    def tokens(self, match: int) -> int:
        """Tokens of a match: itself."""
        return match

    def blocks(self, match: int) -> int:
        """Whole blocks of a match; what is left of it is copied."""
        return match // self.block_tokens

    def blocks_to_pin(self, request: LiveRequest, match: int) -> int:
        """Free blocks that using the whole blocks of a match takes from the allocator (those in use cost nothing)."""
        return sum(block in self._kept.idle for block in self._whole_blocks(request, match)) * self.pool_blocks_per_id

    def pin(self, request: LiveRequest, match: int) -> None:
        """The request uses the whole blocks of a match."""
        request.pinned_ids = self._whole_blocks(request, match)
        request.offered_ids = len(request.pinned_ids)
        self._kept.use(request.pinned_ids)

    def add(self, request: LiveRequest) -> None:
        """What the request has computed by now can be found by others, the block that it is filling included; a copy of something kept
        already stays its own. `offered_ids` counts the whole blocks."""
        size, run, pinned = self.block_tokens, self.run_tokens, request.pinned_ids
        keys = self._keys(request, request.computed_tokens)
        told = min(request.computed_tokens, self._told(request, len(keys)))
        if pinned and (tail := pinned[-1]).end % size:  # it was filled in part
            if tail.end == told:
                return
            pinned.pop()
            del self._kept.users[tail]  # a tail is used by the request that fills it alone
            self._forget(tail)
        whole = told // size
        ends = [number * size for number in range(request.offered_ids + 1, whole + 1)]
        if told % size:
            ends.append(told)
        for end in ends:
            block = KeptBlock(keys[(end - 1) // run], end)
            if block not in self._kept:
                self._kept.users[block] = 1
                self._keep(block, keys)
                pinned.append(block)
        request.offered_ids = max(request.offered_ids, whole)

    def release(self, request: LiveRequest, gone: bool = False) -> int:
        """The request uses no kept blocks any more; those that no other uses become idle, its end to be evicted before its beginning.
        Returns how many blocks of the pool these are."""
        idle = self._kept.unuse(request.pinned_ids)
        request.pinned_ids = []
        request.offered_ids = 0
        return idle * self.pool_blocks_per_id

    def offer(self, request: LiveRequest, tokens: int) -> None:
        """What a step will compute cannot be found yet."""

    def shared(self, request: LiveRequest) -> int:
        """Of the blocks of the request, those that are counted once for all who use their contents."""
        return len(request.pinned_ids) * self.pool_blocks_per_id

    def spare(self, free_blocks: int) -> int:
        """Of so many free blocks, those that can be taken before contents are forgotten."""
        return free_blocks - self.idle_blocks

    def clear(self) -> None:
        """Forgets everything, users included."""
        self._kept.clear()
        self._keys_of.clear()
        self._reach.clear()

    def trim(self, free_blocks: int) -> None:
        """Forgets idle blocks that the allocator has given away, as `PrefixIndex` has it."""
        for block in self._kept.forget_beyond(free_blocks // self.pool_blocks_per_id):
            self._forget(block)

    @property
    def idle_blocks(self) -> int:
        """Free blocks whose contents are kept."""
        return len(self._kept.idle) * self.pool_blocks_per_id

    @property
    def blocks_in_use(self) -> int:
        """Kept blocks that requests use."""
        return len(self._kept.users) * self.pool_blocks_per_id

    # ------------------------------------------------------------------------------------------------------------------------------

    def _keys(self, request: LiveRequest, tokens: int) -> list[int]:
        """Keys of the runs that the first `tokens` tokens of a request lie in, as far as they are known and kept here."""
        if self.outputs is None:
            return request.prefix_ids[: -(-min(tokens, request.prompt_tokens) // self.run_tokens)]
        return self.outputs.first(request.row, -(-tokens // self.run_tokens))

    def _told(self, request: LiveRequest, runs: int) -> int:
        """Tokens of a request of which its first `runs` ids speak."""
        told = runs * self.run_tokens
        return told if self.outputs is not None else min(told, request.prompt_tokens)

    def _whole_blocks(self, request: LiveRequest, match: int) -> list[KeptBlock]:
        size, run = self.block_tokens, self.run_tokens
        keys = self._keys(request, match)
        return [KeptBlock(keys[(end - 1) // run], end) for end in range(size, match + 1, size)]

    def _keep(self, block: KeptBlock, keys: list[int]) -> None:
        """Enters a block: what lies in it of each run can be found."""
        number, run = (block.end - 1) // self.block_tokens, self.run_tokens
        first = number * self.block_tokens // run
        self._keys_of[block] = inside = keys[first : (block.end - 1) // run + 1]
        for place, key in enumerate(inside, first):
            ends = self._reach.setdefault((number, key), {})
            end = min(block.end, (place + 1) * run)
            ends[end] = ends.get(end, 0) + 1

    def _forget(self, block: KeptBlock) -> None:
        number, run = (block.end - 1) // self.block_tokens, self.run_tokens
        first = number * self.block_tokens // run
        for place, key in enumerate(self._keys_of.pop(block), first):
            ends = self._reach[number, key]
            end = min(block.end, (place + 1) * run)
            ends[end] -= 1
            if not ends[end]:
                del ends[end]
                if not ends:
                    del self._reach[number, key]
