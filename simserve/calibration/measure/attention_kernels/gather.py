"""A paged cache without a paged kernel: gather each sequence's blocks, then torch's attention. Runs everywhere, reads the cache twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.calibration.measure.attention_kernels.batch import AttentionPlan, Batch, Heads, cumulative
from simserve.calibration.measure.devices import TorchDevice

BLOCK_TOKENS = 16


class GatherPlan(AttentionPlan):
    """Cache [2, blocks, block_tokens, kv_heads, head_dim]. Decoding sequences run together, padded; prompt chunks one by one."""

    label = "gather + torch sdpa, paged kv"

    def __init__(self, device: TorchDevice, heads: Heads, batch: Batch) -> None:
        super().__init__(device, heads, batch)
        tables, self.blocks = batch.block_tables(BLOCK_TOKENS)
        self.slots = self.tensor(batch.slots(BLOCK_TOKENS, tables), "int64")
        starts = cumulative(batch.new_tokens)
        decoding = [i for i, new in enumerate(batch.new_tokens) if new == 1]
        self.groups: list[tuple[Any, Any, Any]] = []  # rows of the batch, slots of their keys, mask
        if decoding:
            self.groups.append(self._decode_group(decoding, tables, starts))
        for i, new in enumerate(batch.new_tokens):
            if new > 1:
                rows = self.tensor(np.arange(starts[i], starts[i + 1]).reshape(1, -1), "int64")
                self.groups.append((rows, self._keys([i], tables), self._mask([i], new)))

    @staticmethod
    def can_run(device: TorchDevice) -> bool:
        """Always."""
        return True

    def cache_shape(self) -> tuple[int, ...]:
        """[2, blocks, block_tokens, kv_heads, head_dim]."""
        return (2, self.blocks, BLOCK_TOKENS, self.heads.kv_heads, self.heads.head_dim)

    def run(self, q: Any, k: Any, v: Any, cache: Any) -> Any:
        """Write the new tokens to their slots, gather, attend."""
        torch, flat = self.device.torch, cache.view(2, -1, self.heads.kv_heads, self.heads.head_dim)
        flat[0].index_copy_(0, self.slots, k)
        flat[1].index_copy_(0, self.slots, v)
        out = torch.empty_like(q)
        for rows, keys, mask in self.groups:
            attended = torch.nn.functional.scaled_dot_product_attention(
                q[rows].transpose(1, 2),
                flat[0][keys].transpose(1, 2),
                flat[1][keys].transpose(1, 2),
                attn_mask=mask,
                enable_gqa=self.heads.q_heads != self.heads.kv_heads,
            )
            out[rows] = attended.transpose(1, 2)
        return out

    def _decode_group(self, members: list[int], tables: list[Any], starts: Any) -> tuple[Any, Any, Any]:
        rows = self.tensor(starts[members].reshape(-1, 1), "int64")
        return rows, self._keys(members, tables), self._mask(members, 1)

    def _keys(self, members: list[int], tables: list[Any]) -> Any:
        longest = int(self.batch.totals[members].max())
        slots = np.zeros((len(members), longest), dtype=np.int64)
        for row, i in enumerate(members):
            position = np.arange(self.batch.totals[i])
            slots[row, : len(position)] = tables[i][position // BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS
        return self.tensor(slots, "int64")

    def _mask(self, members: list[int], new: int) -> Any:
        """[sequences, 1, new, keys], True = attended."""
        totals = self.batch.totals[members]
        key = np.arange(int(totals.max()))[None, None, None, :]
        query = (totals[:, None] - new + np.arange(new)[None, :])[:, None, :, None]
        window = self.heads.window_tokens or 1 << 40
        return self.tensor((key <= query) & (key > query - window), "bool")
