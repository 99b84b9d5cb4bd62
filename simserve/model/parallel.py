"""How an instance's devices share a model, and which ways are possible."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simserve.errors import ModelError
from simserve.model.architecture import ModelArchitecture
from simserve.model.cuts import problem
from simserve.model.parts import StateSpace

_MOST_NAMED = 64
"""Tensor-parallel sizes that a message looks at."""


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
    """Raises ModelError when the model cannot be split this way, naming what must divide what and the sizes that would do, or when its
    weight format cannot be cut so (see `cuts`), naming the layouts that work."""
    _check_shape(model, parallel)
    reason = problem(model, parallel.tp, parallel.moe_tp)
    if reason is not None:
        raise ModelError(f"model '{model.name}': {reason}; {_what_works(model, parallel)}")


def _check_shape(model: ModelArchitecture, parallel: Parallel) -> None:
    for axis in ("tp", "pp", "dp", "ep"):
        if getattr(parallel, axis) < 1:
            raise ModelError(f"parallel: {axis} is {getattr(parallel, axis)}, it must be at least 1")
    tp = parallel.tp
    _must_divide(model, "tp", tp, "num_attention_heads", model.num_attention_heads)
    for heads in dict.fromkeys(model.layer_kv_heads or (model.num_kv_heads,)) if model.mla is None else ():
        if tp > heads and tp % heads:
            raise ModelError(f"model '{model.name}': tp {tp} is neither a divisor nor a multiple of num_kv_heads {heads}")
        if tp <= heads:
            _must_divide(model, "tp", tp, "num_kv_heads", heads)
    mixer = model.linear_attention
    if mixer is not None:
        groups = "the groups of the state-space heads" if isinstance(mixer, StateSpace) else "linear_num_key_heads"
        if not isinstance(mixer, StateSpace) or mixer.num_key_heads > 1:  # one group is held by every rank
            _must_divide(model, "tp", tp, groups, mixer.num_key_heads)
        _must_divide(model, "tp", tp, "the heads of the recurrent layers", mixer.num_value_heads)
    for width in dict.fromkeys(model.layer_widths or (model.intermediate_size,)) if not all(model.moe_layers) else ():
        _must_divide(model, "tp", tp, "intermediate_size", width)
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


def _what_works(model: ModelArchitecture, parallel: Parallel) -> str:
    """The tensor-parallel sizes that work with the rest of the layout, and the expert parallelism that makes the given one work."""
    sizes = [tp for tp in range(1, _MOST_NAMED + 1) if _works(model, Parallel(tp, parallel.pp, parallel.dp, parallel.ep))]
    spread = [ep for ep in range(parallel.ep + 1, parallel.tp * parallel.dp + 1) if _works(model, replace(parallel, ep=ep))]
    with_ep = f" with ep {parallel.ep}" if parallel.ep > 1 else ""
    ways = [f"tp {', '.join(map(str, sizes))}{with_ep}"] if sizes else []
    ways += (
        [f"tp {parallel.tp} with ep {', '.join(map(str, spread))} (ranks of an ep group hold other experts, cut less)"] if spread else []
    )
    return f"layouts that work: {'; or '.join(ways)}" if ways else "no layout of these devices works"


def _works(model: ModelArchitecture, parallel: Parallel) -> bool:
    try:
        _check_shape(model, parallel)
    except ModelError:
        return False
    return problem(model, parallel.tp, parallel.moe_tp) is None


def _must_divide(model: ModelArchitecture, axis: str, ranks: int, what: str, size: int) -> None:
    if size % ranks:
        fits = ", ".join(str(r) for r in range(1, min(size, 64) + 1) if size % r == 0)
        raise ModelError(f"model '{model.name}': {axis} {ranks} does not divide {what} {size}; it can be {fits}")
