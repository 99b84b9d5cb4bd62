"""FlashInfer's paged attention, the kernels that several engines serve with. Used when it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.calibration.measure.attention_kernels.batch import AttentionPlan, Batch, Heads, cumulative
from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.torch_library import load_optional

BLOCK_TOKENS = 16
_WORKSPACE_BYTES = 256 << 20
_TENSOR_CORES_FROM = 4  # query heads a key/value head from which its decode kernel is faster on tensor cores (FlashInfer's advice)


class FlashInferPlan(AttentionPlan):
    """Cache [2, blocks, block_tokens, kv_heads, head_dim] (FlashInfer's NHD layout)."""

    label = "flashinfer, paged kv"

    def __init__(self, device: TorchDevice, heads: Heads, batch: Batch) -> None:
        super().__init__(device, heads, batch)
        library: Any = load_optional("flashinfer")
        tables, self.blocks = batch.block_tables(BLOCK_TOKENS)
        self.slots = self.tensor(batch.slots(BLOCK_TOKENS, tables), "int64")
        pages = (
            self.tensor(cumulative([len(t) for t in tables])),
            self.tensor(np.concatenate(tables)),
            self.tensor((batch.totals - 1) % BLOCK_TOKENS + 1),
        )
        workspace = device.torch.empty(_WORKSPACE_BYTES, dtype=device.torch.uint8, device=device.device)
        layout = (heads.q_heads, heads.kv_heads, heads.head_dim, BLOCK_TOKENS)
        kinds = {"q_data_type": self.torch_dtype, "kv_data_type": self.torch_dtype}
        window = heads.window_tokens - 1 if heads.window_tokens else -1
        if max(batch.new_tokens) == 1:
            dense = heads.q_heads >= _TENSOR_CORES_FROM * heads.kv_heads
            self.wrapper = library.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD", use_tensor_cores=dense)
            self.wrapper.plan(*pages, *layout, window_left=window, **kinds)
        else:
            self.wrapper = library.BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD")
            starts = self.tensor(cumulative(batch.new_tokens))
            self.wrapper.plan(starts, *pages, *layout, causal=True, window_left=window, **kinds)

    @staticmethod
    def can_run(device: TorchDevice) -> bool:
        """On CUDA devices where the library imports."""
        return device.kind == "cuda" and load_optional("flashinfer") is not None

    def cache_shape(self) -> tuple[int, ...]:
        """[2, blocks, block_tokens, kv_heads, head_dim]."""
        return (2, self.blocks, BLOCK_TOKENS, self.heads.kv_heads, self.heads.head_dim)

    def run(self, q: Any, k: Any, v: Any, cache: Any) -> Any:
        """Write the new tokens to their slots, then attend."""
        flat = cache.view(2, -1, self.heads.kv_heads, self.heads.head_dim)
        flat[0].index_copy_(0, self.slots, k)
        flat[1].index_copy_(0, self.slots, v)
        return self.wrapper.run(q, (cache[0], cache[1]))
