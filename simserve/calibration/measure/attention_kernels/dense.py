"""torch's scaled_dot_product_attention on equal sequences with a contiguous cache: runs everywhere, the simplest kernel there is."""

from __future__ import annotations

from typing import Any

from simserve.calibration.measure.attention_kernels.batch import AttentionPlan, Batch, Heads
from simserve.calibration.measure.devices import TorchDevice
from simserve.calibration.measure.workbench import UnsupportedError


class DensePlan(AttentionPlan):
    """Cache [2, batch, kv_heads, tokens, head_dim]."""

    paged = False
    label = "torch sdpa, contiguous kv"

    def __init__(self, device: TorchDevice, heads: Heads, batch: Batch) -> None:
        super().__init__(device, heads, batch)
        if len(set(batch.new_tokens)) > 1 or len(set(batch.context_tokens)) > 1:
            raise UnsupportedError("contiguous attention needs sequences of one length")
        self.new, self.total = batch.new_tokens[0], int(batch.totals[0])
        window = heads.window_tokens
        self.first_key = max(0, self.total - self.new + 1 - window) if window else 0
        self.bias: Any = None
        if self.new > 1 and window and window < self.total:
            self.bias = _window_mask(device.torch, device.device, self.new, self.total - self.first_key, window)
            self.label = "torch sdpa with a mask, contiguous kv"
        elif self.new > 1 and batch.context_tokens[0]:
            from torch.nn.attention.bias import causal_lower_right

            self.bias = causal_lower_right(self.new, self.total)

    @staticmethod
    def can_run(device: TorchDevice) -> bool:
        """Always."""
        return True

    def cache_shape(self) -> tuple[int, ...]:
        """[2, batch, kv_heads, tokens, head_dim]."""
        return (2, self.batch.sequences, self.heads.kv_heads, self.total, self.heads.head_dim)

    def run(self, q: Any, k: Any, v: Any, cache: Any) -> Any:
        """Write at the tail of the cache, then attend."""
        keys, values = cache[0], cache[1]
        keys[:, :, -self.new :].copy_(self._by_head(k, self.heads.kv_heads))
        values[:, :, -self.new :].copy_(self._by_head(v, self.heads.kv_heads))
        out = self.device.torch.nn.functional.scaled_dot_product_attention(
            self._by_head(q, self.heads.q_heads),
            keys[:, :, self.first_key :],
            values[:, :, self.first_key :],
            attn_mask=self.bias,
            is_causal=self.bias is None and self.new > 1,
            enable_gqa=self.heads.q_heads != self.heads.kv_heads,
        )
        return out.transpose(1, 2).reshape(-1, self.heads.q_heads, self.heads.head_dim)

    def _by_head(self, x: Any, heads: int) -> Any:
        return x.view(self.batch.sequences, self.new, heads, self.heads.head_dim).transpose(1, 2)


def _window_mask(torch: Any, device: Any, new: int, keys: int, window: int) -> Any:
    query = torch.arange(keys - new, keys, device=device)[:, None]
    key = torch.arange(keys, device=device)[None, :]
    return (key <= query) & (key > query - window)
