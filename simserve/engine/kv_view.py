"""The KV cache as policies see it."""

from __future__ import annotations

from typing import ClassVar, cast

from simserve.contracts import Request
from simserve.engine.kv_cache import KvCache
from simserve.engine.readonly import ReadOnly, write
from simserve.engine.request import LiveRequest


class KvView(ReadOnly):
    """The KV cache as policies see it: the questions without the verbs."""

    __slots__ = ("_kv", "block_tokens", "total_blocks", "watermark_blocks")
    called: ClassVar[str] = "view.kv"

    _kv: KvCache
    block_tokens: int
    total_blocks: int
    watermark_blocks: int

    def __init__(self, kv: KvCache) -> None:
        write(self, "_kv", kv)
        for name in ("block_tokens", "total_blocks", "watermark_blocks"):
            write(self, name, getattr(kv, name))

    @property
    def free_blocks(self) -> int:
        """Blocks that no request owns; kept contents without users are among them."""
        return self._kv._free

    @property
    def used_blocks(self) -> int:
        """Blocks owned by requests."""
        return self._kv._used

    @property
    def free_tokens(self) -> int:
        """Tokens that fit in the free blocks above the watermark (>= 0): of a new sequence, and no window of it full."""
        free, groups = self._kv._free - self.watermark_blocks, self._kv.groups
        return max(0, free if groups is None else (free - groups.state) // groups.per_block) * self.block_tokens

    def idle_blocks(self, request: Request) -> int:
        """Free blocks that an admission of a waiting request would take for what the prefix cache has of it."""
        prefix, live = self._kv.prefix, cast(LiveRequest, request)
        return 0 if prefix is None else prefix.blocks_to_pin(live, prefix.match(live))

    def blocks(self, tokens: int) -> int:
        """Blocks that a new sequence of `tokens` tokens takes."""
        return self._kv.blocks(tokens)
