"""torch_npu's fused inference attention: the kernel that vLLM-Ascend runs over blocks of 128 tokens, for prompts and decodes alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from simserve.calibration.measure.attention_kernels.batch import AttentionPlan, Batch, Heads
from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.torch_library import load_optional
from simserve.calibration.measure.workbench import UnsupportedError

BLOCK_TOKENS = 128
_CAUSAL = 3
"""`sparse_mode` of torch_npu.npu_fused_infer_attention_score: causal from the lower right, with a mask of 2048 x 2048 that it reuses."""

_MASK_SIDE = 2048


class FusedInferPlan(AttentionPlan):
    """Cache [2, blocks, block_tokens, kv_heads x head_dim]. Not run on a device by us: the calls follow torch_npu's documentation."""

    label = "torch_npu npu_fused_infer_attention_score, paged kv"

    def __init__(self, device: TorchDevice, heads: Heads, batch: Batch) -> None:
        super().__init__(device, heads, batch)
        if heads.window_tokens:
            raise UnsupportedError("npu_fused_infer_attention_score over a block table is measured without a sliding window")
        library = load_optional("torch_npu")
        assert library is not None  # can_run
        self.attend = library.npu_fused_infer_attention_score
        tables, self.blocks = batch.block_tables(BLOCK_TOKENS)
        padded = np.zeros((batch.sequences, max(map(len, tables))), dtype=np.int32)
        for row, table in enumerate(tables):
            padded[row, : len(table)] = table
        self.slots = self.tensor(batch.slots(BLOCK_TOKENS, tables), "int64")
        self.options: dict[str, Any] = {
            "num_heads": heads.q_heads,
            "num_key_value_heads": heads.kv_heads,
            "input_layout": "TND",
            "scale": 1.0 / math.sqrt(heads.head_dim),
            "block_table": self.tensor(padded),
            "block_size": BLOCK_TOKENS,
            "actual_seq_lengths": np.cumsum(batch.new_tokens).tolist(),
            "actual_seq_lengths_kv": batch.totals.tolist(),
        }
        if max(batch.new_tokens) > 1:
            ones = device.torch.ones((_MASK_SIDE, _MASK_SIDE), device=device.device, dtype=device.torch.bool)
            self.options |= {"sparse_mode": _CAUSAL, "atten_mask": device.torch.triu(ones, diagonal=1)}

    @staticmethod
    def can_run(device: TorchDevice) -> bool:
        """On Ascend NPUs with a torch_npu that has the kernel."""
        return device.kind == "npu" and hasattr(load_optional("torch_npu"), "npu_fused_infer_attention_score")

    def cache_shape(self) -> tuple[int, ...]:
        """Paged, heads side by side."""
        return (2, self.blocks, BLOCK_TOKENS, self.heads.kv_heads * self.heads.head_dim)

    def run(self, q: Any, k: Any, v: Any, cache: Any) -> Any:
        """Write the new tokens to their slots, then one kernel for all sequences."""
        flat = cache.view(2, -1, self.heads.kv_heads, self.heads.head_dim)
        flat[0].index_copy_(0, self.slots, k)
        flat[1].index_copy_(0, self.slots, v)
        return self.attend(q, cache[0], cache[1], **self.options)[0]
