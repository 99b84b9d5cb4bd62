"""How an instance's devices share a model, and which ways are possible."""

from __future__ import annotations

from dataclasses import dataclass

from simserve.errors import ModelError
from simserve.model.architecture import ModelArchitecture


@dataclass(frozen=True, slots=True)
class Parallel:
    """How one instance uses its devices.

    tp  tensor-parallel ranks of attention and dense layers. pp: pipeline stages.
    dp  data-parallel attention replicas that share the experts (dense models scale with more instances instead).
    ep  expert-parallel groups the experts are spread over; divides tp * dp, and the rest shards each expert: moe_tp = tp * dp / ep.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1

    @property
    def devices(self) -> int:
        """Devices of the instance."""
        return self.tp * self.pp * self.dp

    @property
    def moe_tp(self) -> int:
        """Ranks that share each expert."""
        return self.tp * self.dp // self.ep


def check(model: ModelArchitecture, parallel: Parallel) -> None:
    """Raises ModelError when the model cannot be split this way, naming what must divide what and the sizes that would do."""
    for axis in ("tp", "pp", "dp", "ep"):
        if getattr(parallel, axis) < 1:
            raise ModelError(f"parallel: {axis} is {getattr(parallel, axis)}, it must be at least 1")
    tp = parallel.tp
    _must_divide(model, "tp", tp, "num_attention_heads", model.num_attention_heads)
    if model.mla is None and tp > model.num_kv_heads and tp % model.num_kv_heads:
        raise ModelError(f"model '{model.name}': tp {tp} is neither a divisor nor a multiple of num_kv_heads {model.num_kv_heads}")
    if model.mla is None and tp <= model.num_kv_heads:
        _must_divide(model, "tp", tp, "num_kv_heads", model.num_kv_heads)
    if model.linear_attention is not None:
        _must_divide(model, "tp", tp, "linear_num_key_heads", model.linear_attention.num_key_heads)
    if not all(model.moe_layers):
        _must_divide(model, "tp", tp, "intermediate_size", model.intermediate_size)
    if parallel.pp > model.num_layers:
        raise ModelError(f"model '{model.name}': pp {parallel.pp} exceeds its {model.num_layers} layers")
    if model.experts is None:
        if parallel.dp > 1 or parallel.ep > 1:
            raise ModelError(
                f"model '{model.name}' has no experts: dp {parallel.dp} and ep {parallel.ep} must be 1 (use more instances for replicas)"
            )
        return
    ranks = tp * parallel.dp
    if ranks % parallel.ep:
        raise ModelError(f"parallel: ep {parallel.ep} does not divide tp x dp = {tp} x {parallel.dp} = {ranks}")
    if parallel.ep > model.experts.num_experts:
        raise ModelError(f"model '{model.name}': ep {parallel.ep} exceeds its {model.experts.num_experts} experts")
    _must_divide(model, "tp x dp / ep", parallel.moe_tp, "moe_intermediate_size", model.experts.intermediate_size)
    if model.experts.shared_intermediate_size:
        _must_divide(model, "tp", tp, "shared_intermediate_size", model.experts.shared_intermediate_size)


def _must_divide(model: ModelArchitecture, axis: str, ranks: int, what: str, size: int) -> None:
    if size % ranks:
        fits = ", ".join(str(r) for r in range(1, min(size, 64) + 1) if size % r == 0)
        raise ModelError(f"model '{model.name}': {axis} {ranks} does not divide {what} {size}; it can be {fits}")
