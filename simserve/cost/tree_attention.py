"""Drafted tokens of a tree, which attend to their ancestors only.

A kernel of paged attention masks by position and cannot tell branches apart. SGLang runs it over the cache and a second one over the
tree, a row of ancestors for each token, and merges the two (python/sglang/srt/layers/attention/flashattention_backend.py, cascade attention
with topk > 1). Kernels of latent attention take the mask itself.
"""

from __future__ import annotations

from simserve.cost.step import StepCost
from simserve.model.operators import MLA, Attention

_MERGED_TENSORS = 3
"""Outputs of both kernels read, one written."""


class TreeAttention:
    """What trees add to the attention of an instance's first stage."""

    def __init__(self, cost: StepCost) -> None:
        self._cost = cost
        layers = cost.attention_layers
        self._layers = sum(count for layer, count in layers if isinstance(layer, Attention))
        self._masked = any(isinstance(layer, MLA) for layer, _ in layers)
        self._width_bytes = sum(2 * count * layer.q_heads * layer.head_dim for layer, count in layers if isinstance(layer, Attention))

    def seconds(self, tokens: int, ancestors: int) -> float:
        """Of `tokens` tokens, each of which attends to so many of its tree."""
        if not tokens or self._masked:
            return 0.0
        device = self._cost.device
        merging = self._layers * device.launch_s + _MERGED_TENSORS * tokens * self._width_bytes / device.hbm_bytes_per_s
        return self._cost.attention_seconds(tokens, tokens * ancestors) + merging
