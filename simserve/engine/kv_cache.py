"""The KV cache of an instance as counts of blocks (PagedAttention, arXiv 2309.06180, section 4)."""

from __future__ import annotations


class KvCache:
    """Blocks on the devices and on the host. Owners keep their own counts (request.held_blocks); I3 is that they add up.

    total_blocks      blocks of the instance (each `block_tokens` tokens of all layers on all ranks)
    free_blocks       of them, not owned by anybody
    watermark_blocks  free blocks an admission must leave (against preempting soon after); growth of running requests may use them
    host_free_blocks  room on the host for swapped requests
    """

    __slots__ = ("block_tokens", "free_blocks", "host_free_blocks", "host_total_blocks", "total_blocks", "watermark_blocks")

    def __init__(self, total_blocks: int, block_tokens: int, watermark_blocks: int, host_blocks: int) -> None:
        self.total_blocks = total_blocks
        self.free_blocks = total_blocks
        self.block_tokens = block_tokens
        self.watermark_blocks = watermark_blocks
        self.host_total_blocks = host_blocks
        self.host_free_blocks = host_blocks

    def blocks(self, tokens: int) -> int:
        """Blocks that hold `tokens` tokens."""
        return -(-tokens // self.block_tokens)

    @property
    def free_tokens(self) -> int:
        """Tokens that fit in the free blocks above the watermark (>= 0)."""
        return max(0, self.free_blocks - self.watermark_blocks) * self.block_tokens

    @property
    def used_blocks(self) -> int:
        """Blocks owned by requests."""
        return self.total_blocks - self.free_blocks
