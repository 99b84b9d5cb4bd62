"""Prefix caching: KV of prompts kept after their requests end, found again by content (vLLM's automatic prefix caching).

Contents are known as ids of runs of tokens (RequestTable.prefix: Mooncake's hash ids, 512 tokens each); as keys here they stand for a run,
all before it, the adapter and the cache salt. Each id stands for `blocks_per_id` KV blocks. Blocks in use by at least one request are
pinned; the others are free to the allocator but keep their contents until it takes them back, least recently used first. So free blocks
include idle cached ones, as in vLLM. The blocks themselves are counted by KvCache, which has this index.
"""

from __future__ import annotations

from typing import Protocol

from simserve.engine.kept_contents import KeptContents
from simserve.engine.request import LiveRequest
from simserve.errors import ConfigError


class Contents(Protocol):
    """What requests contain, as keys (`PrefixBlocks.chained`, `GrowingContents`)."""

    @property
    def block_tokens(self) -> int:
        """Tokens of an id."""

    @property
    def outputs(self) -> bool:
        """Whether the ids go on through the generated tokens."""

    def first(self, row: int, count: int) -> list[int]:
        """The first `count` ids of a row, or all."""
        ...


class PrefixIndex(Protocol):
    """What a KV cache asks the index of its contents. A *match* is a number in the index's own units: runs (`PrefixCache`) or tokens
    (`TokenPrefixCache`).

    outputs       what requests contain, where generated tokens are kept too; None = prompts only
    when_planned  what a step will compute can be found as soon as the step is planned
    """

    outputs: Contents | None
    when_planned: bool

    def match(self, request: LiveRequest) -> int:
        """How far the request begins like something kept, leaving at least one token to compute."""
        ...

    def tokens(self, match: int) -> int:
        """Tokens of a match."""
        ...

    def blocks(self, match: int) -> int:
        """Blocks of a match that are shared, as they are."""
        ...

    def blocks_to_pin(self, request: LiveRequest, match: int) -> int:
        """Free blocks that using a match takes from the allocator (those in use cost nothing)."""
        ...

    def pin(self, request: LiveRequest, match: int) -> None:
        """The request uses a match."""
        ...

    def add(self, request: LiveRequest) -> int | None:
        """What the request has computed by now can be found by others; a copy of something kept already stays its own, or is given up: the
        answer is how many blocks less are in use now."""
        ...

    def offer(self, request: LiveRequest, tokens: int) -> None:
        """With `when_planned`: the same of its first `tokens` tokens."""
        ...

    def shared(self, request: LiveRequest) -> int:
        """Of the blocks of the request, those that are counted once for all who use their contents."""
        ...

    def release(self, request: LiveRequest, gone: bool = False) -> int:
        """The request uses nothing any more, and will not come back if it is `gone`. Returns how many blocks no other uses: they are idle,
        kept in free blocks."""
        ...

    def trim(self, free_blocks: int) -> None:
        """Forgets idle contents whose blocks the allocator has given away, so that `free_blocks` hold the rest. Called whenever blocks
        have been given away, and before any come back: what survives must not depend on when it is looked at."""
        ...

    def clear(self) -> None:
        """Forgets everything, users included."""
        ...

    def spare(self, free_blocks: int) -> int:
        """Of so many free blocks, those that can be taken before contents are forgotten."""
        ...

    @property
    def blocks_in_use(self) -> int:
        """Cached blocks that requests use."""
        ...


class PrefixCache:
    """The index of one instance that shares whole runs.

    pool_blocks  blocks of the pool that a block of tokens takes (KvGroups.full; at least 1)
    outputs  where generated tokens are kept too, the ids of all requests by row; None = prompts only. They are offered to others when their
             request leaves its batch, as in SGLang (`RadixCache.cache_finished_req`); vLLM does it block by block
             (`BlockPool.cache_full_blocks`), which is the same for all who come later. On the request are the prompt's ids only, since
             policies see them (I8)
    """

    when_planned = False

    def __init__(self, block_tokens: int, tokens_per_id: int, outputs: Contents | None = None, pool_blocks: int = 1) -> None:
        if tokens_per_id % block_tokens:
            raise ConfigError(
                f"prefix caching needs KV blocks that divide the trace's prefix blocks of {tokens_per_id} tokens, "
                f"found block_tokens {block_tokens}; kv.prefix_match: token matches whatever their sizes"
            )
        self.outputs = outputs
        self.tokens_per_id = tokens_per_id
        self.blocks_per_id = tokens_per_id // block_tokens
        self.pool_blocks_per_id = self.blocks_per_id * pool_blocks
        self._kept: KeptContents[int] = KeptContents()

    def tokens(self, match: int) -> int:
        """Tokens of so many ids."""
        return match * self.tokens_per_id

    def blocks(self, match: int) -> int:
        """Blocks of a table that so many ids take."""
        return match * self.blocks_per_id

    def match(self, request: LiveRequest) -> int:
        """Leading ids of the request that are cached, leaving at least one token to compute."""
        found, users, idle = 0, self._kept.users, self._kept.idle
        for key in self._leading(request, (request.target_tokens - 1) // self.tokens_per_id):
            if key not in users and key not in idle:
                break
            found += 1
        return found

    def _leading(self, request: LiveRequest, ids: int) -> list[int]:
        """The first `ids` ids of what the request contains, as far as they are known and kept here."""
        of_prompt = request.prompt_tokens // self.tokens_per_id
        if self.outputs is None or ids <= of_prompt:
            return request.prefix_ids[: min(ids, of_prompt)]
        return self.outputs.first(request.row, ids)

    def blocks_to_pin(self, request: LiveRequest, ids: int) -> int:
        """Free blocks that pinning the first `ids` ids takes from the allocator (those of ids in use cost nothing)."""
        return sum(key in self._kept.idle for key in self._leading(request, ids)) * self.pool_blocks_per_id

    def pin(self, request: LiveRequest, ids: int) -> None:
        """The request uses its first `ids` ids, all of them cached."""
        keys = self._leading(request, ids)
        self._kept.use(keys)
        request.pinned_ids = list(keys)
        request.offered_ids = ids

    def add(self, request: LiveRequest) -> None:
        """What the request has computed by now can be found by others; a copy of something cached already stays its own."""
        full = request.computed_tokens // self.tokens_per_id
        if self.outputs is None:
            full = min(full, request.prompt_tokens // self.tokens_per_id)
        if full <= request.offered_ids:
            return
        users, idle = self._kept.users, self._kept.idle
        for key in self._leading(request, full)[request.offered_ids :]:
            if key not in users and key not in idle:
                users[key] = 1
                request.pinned_ids.append(key)
        request.offered_ids = full

    def release(self, request: LiveRequest, gone: bool = False) -> int:
        """The request releases its cached blocks; those that no other uses become idle, its end to be evicted before its beginning.
        Returns how many these are."""
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

    def trim(self, free_blocks: int) -> None:
        """Forgets idle contents whose blocks the allocator has given away, so that `free_blocks` hold the rest. Called whenever blocks
        have been given away, and before any come back: what survives must not depend on when it is looked at."""
        self._kept.forget_beyond(free_blocks // self.pool_blocks_per_id)

    @property
    def idle_blocks(self) -> int:
        """Free blocks whose contents are kept."""
        return len(self._kept.idle) * self.pool_blocks_per_id

    @property
    def blocks_in_use(self) -> int:
        """Cached blocks that requests use."""
        return len(self._kept.users) * self.pool_blocks_per_id
