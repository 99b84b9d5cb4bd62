"""What a sequence holds of the pool where layers keep different tokens: all of them, those of a window, or a state of fixed size.

A request has one block table: a block for every `block_tokens` tokens (`request.held_blocks` is its length). The pool is counted in blocks
of equal bytes, each of which holds `block_tokens` tokens of as many layers as fit in it (vLLM's hybrid KV cache manager,
docs/design/hybrid_kv_cache_manager.md: one pool, groups of layers with blocks of one size). How many of them a block of the table takes,
and for how long, is said here; where all layers keep every token there are no groups, and a block of the table is one of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from simserve.errors import ConfigError

NO_LIMIT = 1 << 40
"""Tokens of a sequence that never takes more memory than its windows hold."""


class KvWindow(NamedTuple):
    """Layers that attend in a window of one length.

    pool_blocks     blocks of the pool for each block of the table that is kept
    prefill_blocks  most blocks of the table kept while a prompt is computed: the window and the tokens of a step
    decode_blocks   most blocks kept while decoding
    """

    pool_blocks: int
    prefill_blocks: int
    decode_blocks: int


@dataclass(frozen=True, slots=True)
class KvGroups:
    """How a block table is kept.

    full     blocks of the pool for each block of the table, in layers (of the model, or of a draft model) that keep every token
    windows  layers that keep a window, the shortest first
    state    blocks of the pool that hold the recurrent state of a sequence, whatever its length
    """

    full: int
    windows: tuple[KvWindow, ...] = ()
    state: int = 0

    def __post_init__(self) -> None:
        counts = [self.full, self.state, *(number for window in self.windows for number in window)]
        if min(counts) < 0 or not self.per_block:
            raise ConfigError(f"KV groups: numbers of blocks must be at least 0, and a block of tokens must take some, found {self}")
        kept = [window.decode_blocks for window in self.windows]
        if kept != sorted(kept) or any(window.prefill_blocks < window.decode_blocks for window in self.windows):
            raise ConfigError(f"KV groups: windows must be in order, and keep no less while a prompt is computed, found {self.windows}")

    @property
    def per_block(self) -> int:
        """Blocks of the pool that one more block of a table takes at most."""
        return self.full + sum(window.pool_blocks for window in self.windows)

    def beside(self, blocks: int, decodes: bool) -> int:
        """Blocks of the pool that windows and state take beside a table of so many blocks: of a sequence that `decodes`, or of one whose
        prompt is computed."""
        total = self.state
        for window in self.windows:
            total += window.pool_blocks * min(blocks, window.decode_blocks if decodes else window.prefill_blocks)
        return total

    def pool_blocks(self, blocks: int, decodes: bool) -> int:
        """Blocks of the pool that a sequence with a table of so many blocks holds."""
        return self.full * blocks + self.beside(blocks, decodes)

    def longest_table(self, pool_blocks: int) -> int | None:
        """Blocks of the longest table that a sequence may get in so many blocks of the pool; None = any.

        It must fit while its prompt is computed (after a preemption all of it may be), and leave as much as `free_tokens` of a view counts
        for its next block, so that a policy that asks for that alone can always go on with the only request there is.
        """
        usable = pool_blocks - self.state - (self.per_block - self.full)
        low, high = 0, max(0, usable) // self.full if self.full else NO_LIMIT
        if self.pool_blocks(high, False) <= usable:
            return high if self.full else None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.pool_blocks(middle, False) <= usable else (low, middle)
        return low
