"""Prefix caching: KV of prompts kept after their requests end, found again by content (vLLM's automatic prefix caching).

Contents are known as ids of runs of tokens (RequestTable.prefix: Mooncake's hash ids, 512 tokens each); as keys here they stand for a run,
all before it, the adapter and the cache salt. Each id stands for `blocks_per_id` KV blocks. Blocks in use by at least one request are
pinned; the others are free to the allocator but keep their contents until it takes them back, least recently used first. So free blocks
include idle cached ones, as in vLLM. The blocks themselves are counted by KvCache, which has this index.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

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


class PrefixCache:
    """The index of one instance.

    pool_blocks  blocks of the pool that a block of tokens takes (KvGroups.full; at least 1)
    outputs  where generated tokens are kept too, the ids of all requests by row; None = prompts only. They are offered to others when their
             request leaves its batch, as in SGLang (`RadixCache.cache_finished_req`); vLLM does it block by block
             (`BlockPool.cache_full_blocks`), which is the same for all who come later. On the request are the prompt's ids only, since
             policies see them (I8)
    """

    def __init__(self, block_tokens: int, tokens_per_id: int, outputs: Contents | None = None, pool_blocks: int = 1) -> None:
        if tokens_per_id % block_tokens:
            raise ConfigError(
                f"prefix caching needs KV blocks that divide the trace's prefix blocks of {tokens_per_id} tokens, "
                f"found block_tokens {block_tokens}"
            )
        self.outputs = outputs
        self.tokens_per_id = tokens_per_id
        self.blocks_per_id = tokens_per_id // block_tokens
        self.pool_blocks_per_id = self.blocks_per_id * pool_blocks
        self._users: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    def match(self, request: LiveRequest) -> int:
        """Leading ids of the request that are cached, leaving at least one token to compute."""
        found = 0
        for key in self._leading(request, (request.target_tokens - 1) // self.tokens_per_id):
            if key not in self._users and key not in self._idle:
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
        return sum(key in self._idle for key in self._leading(request, ids)) * self.pool_blocks_per_id

    def pin(self, request: LiveRequest, ids: int) -> None:
        """The request uses its first `ids` ids, all of them cached."""
        keys = self._leading(request, ids)
        for key in keys:
            self._idle.pop(key, None)
            self._users[key] = self._users.get(key, 0) + 1
        request.pinned_ids = list(keys)
        request.offered_ids = ids

    def add(self, request: LiveRequest) -> None:
        """What the request has computed by now can be found by others; a copy of something cached already stays its own."""
        full = request.computed_tokens // self.tokens_per_id
        if self.outputs is None:
            full = min(full, request.prompt_tokens // self.tokens_per_id)
        if full <= request.offered_ids:
            return
        for key in self._leading(request, full)[request.offered_ids :]:
            if key not in self._users and key not in self._idle:
                self._users[key] = 1
                request.pinned_ids.append(key)
        request.offered_ids = full

    def release(self, request: LiveRequest) -> int:
        """The request releases its cached blocks; those that no other uses become idle, its end to be evicted before its beginning.
        Returns how many these are."""
        idle = len(self._idle)
        for key in reversed(request.pinned_ids):
            users = self._users[key] - 1
            if users:
                self._users[key] = users
            else:
                del self._users[key]
                self._idle[key] = None
        request.pinned_ids = []
        request.offered_ids = 0
        return (len(self._idle) - idle) * self.pool_blocks_per_id

    def clear(self) -> None:
        """Forgets everything, users included."""
        self._users.clear()
        self._idle.clear()

    def trim(self, free_blocks: int) -> None:
        """Forgets idle contents whose blocks the allocator has given away, so that `free_blocks` hold the rest. Called whenever blocks
        have been given away, and before any come back: what survives must not depend on when it is looked at."""
        room = free_blocks // self.pool_blocks_per_id
        while len(self._idle) > room:
            self._idle.popitem(last=False)

    @property
    def idle_blocks(self) -> int:
        """Free blocks whose contents are kept."""
        return len(self._idle) * self.pool_blocks_per_id

    @property
    def blocks_in_use(self) -> int:
        """Cached blocks that requests use."""
        return len(self._users) * self.pool_blocks_per_id
