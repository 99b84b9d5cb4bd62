"""torch.nn.attention.varlen: FlashAttention on packed sequences, over a paged cache where this PyTorch has block tables."""

from __future__ import annotations

import importlib
import inspect
from functools import lru_cache
from typing import Any

import numpy as np

from simserve.calibration.measure.attention_kernels.batch import AttentionPlan, Batch, Heads, cumulative
from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.workbench import UnsupportedError

BLOCK_TOKENS = 256  # FlashAttention 2 takes pages of a multiple of 256 tokens only


class VarlenPlan(AttentionPlan):
    """Cache [2, blocks, block_tokens, kv_heads, head_dim], or [2, tokens, kv_heads, head_dim] where there are no block tables."""

    def __init__(self, device: TorchDevice, heads: Heads, batch: Batch) -> None:
        super().__init__(device, heads, batch)
        self.attend, options = _function()
        if heads.q_heads != heads.kv_heads and "enable_gqa" not in options:
            raise UnsupportedError("this PyTorch's varlen attention has no grouped-query form")
        self.paged = {"block_table", "seqused_k"} <= options
        self.label = "torch varlen, paged kv" if self.paged else "torch varlen, contiguous kv"
        window = heads.window_tokens - 1 if heads.window_tokens else -1
        self.options: dict[str, Any] = {"window_size": (window, 0)} if "window_size" in options else {"is_causal": True}
        if "window_size" not in options and heads.window_tokens:
            raise UnsupportedError("this PyTorch's varlen attention has no sliding window")
        if "enable_gqa" in options:
            self.options["enable_gqa"] = heads.q_heads != heads.kv_heads
        self.cu_q, self.max_q = self.tensor(cumulative(batch.new_tokens)), max(batch.new_tokens)
        self.cu_k, self.max_k = self.tensor(cumulative(batch.totals)), int(batch.totals.max())
        if self.paged:
            tables, self.blocks = batch.block_tables(BLOCK_TOKENS)
            padded = np.zeros((batch.sequences, max(map(len, tables))), dtype=np.int32)
            for row, table in enumerate(tables):
                padded[row, : len(table)] = table
            self.options |= {"block_table": self.tensor(padded), "seqused_k": self.tensor(batch.totals)}
            self.slots = self.tensor(batch.slots(BLOCK_TOKENS, tables), "int64")
        else:
            ends = np.cumsum(batch.totals)
            slots = [np.arange(end - new, end) for end, new in zip(ends, batch.new_tokens, strict=True)]
            self.slots = self.tensor(np.concatenate(slots), "int64")

    @staticmethod
    def can_run(device: TorchDevice) -> bool:
        """On CUDA devices, with PyTorch 2.10 or newer."""
        return device.kind == "cuda" and _function()[0] is not None

    def cache_shape(self) -> tuple[int, ...]:
        """Paged or packed, see the class."""
        tail = (self.heads.kv_heads, self.heads.head_dim)
        return (2, self.blocks, BLOCK_TOKENS, *tail) if self.paged else (2, int(self.batch.totals.sum()), *tail)

    def run(self, q: Any, k: Any, v: Any, cache: Any) -> Any:
        """Write the new tokens to their slots, then one kernel for all sequences."""
        flat = cache.view(2, -1, self.heads.kv_heads, self.heads.head_dim)
        flat[0].index_copy_(0, self.slots, k)
        flat[1].index_copy_(0, self.slots, v)
        cu_k = None if self.paged else self.cu_k
        return self.attend(q, cache[0], cache[1], self.cu_q, cu_k, self.max_q, self.max_k, **self.options)


@lru_cache(maxsize=1)
def _function() -> tuple[Any, frozenset[str]]:
    try:
        attend = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    except (ImportError, AttributeError):
        return None, frozenset()
    return attend, frozenset(inspect.signature(attend).parameters)
