"""Tables that name a model's layers instead of shapes: the shapes are looked up in the model's architecture."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from simserve.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd

    from simserve.model.operators import Operator

_MATRICES = {"qkv_proj": "attn_pre_proj", "o_proj": "attn_post_proj", "gate_up_proj": "mlp_up_proj", "down_proj": "mlp_down_proj"}
_MATRICES["lm_head"] = "lm_head"
_ELEMENTWISE = {
    "act_fn": "mlp_act",
    "rotary_emb": "attn_rope",
    "layernorm": "input_layernorm",
    "final_layernorm": "final_layernorm",
    "embedding": "emb",
    "qk_norm": "qk_norm",
    "sampler": "sampler",
}
_SAME_ARCHITECTURE = {"Qwen/Qwen3-30B-A3B-Instruct-2507": "Qwen/Qwen3-30B-A3B"}


@lru_cache(maxsize=64)
def _operators(model: str, tp: int) -> dict[str, Operator]:
    """Operators of the model's first layer and of its ends, by name; empty for a model that is not bundled."""
    from simserve.model import load_model
    from simserve.model.layout import head_operators, layer_operators
    from simserve.model.parallel import Parallel

    try:
        architecture = load_model(_SAME_ARCHITECTURE.get(model, model))
    except ModelError:
        return {}
    parallel = Parallel(tp=tp)
    head = head_operators(architecture, parallel)
    return {op.name: op for op in (*layer_operators(architecture, parallel, 0), *head.embedding, *head.output)}


def _look_up(frame: pd.DataFrame, names: dict[str, str], fields: tuple[str, ...]) -> pd.DataFrame:
    """The rows whose layer is in `names`, with these fields of the layer's operator (NaN for an unknown model)."""
    out = frame[frame["layer"].astype(str).isin(names)].copy()
    keys = zip(out["model"].astype(str), out["tensor_parallel"].astype(int), out["layer"].astype(str), strict=True)
    found = [_operators(model, tp).get(names[layer]) for model, tp, layer in keys]
    for field in fields:
        out[field] = [float(getattr(op, field)) if op is not None else float("nan") for op in found]
    return out


def layer_gemms(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of `layer`, `tokens`, `model`, `tensor_parallel` as m, n, k."""
    out = _look_up(frame, _MATRICES, ("n", "k"))
    return out.assign(m=out["tokens"])


def layer_elementwise(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows' element-wise layers, one kernel a layer."""
    out = _look_up(frame, _ELEMENTWISE, ("width", "bytes_per_token"))
    return out.assign(num_tokens=out["tokens"], kernel=out["layer"].astype(str).map(_ELEMENTWISE))


def mixed_attention(frame: pd.DataFrame) -> pd.DataFrame:
    """Mixed batches with the head counts of one rank."""
    out = frame.assign(layer="attn")
    heads = _look_up(out, {"attn": "attn"}, ("q_heads", "kv_heads", "head_dim"))
    return heads.assign(num_q_heads=heads["q_heads"], num_kv_heads=heads["kv_heads"], kv_dtype=heads["dtype"])


def decode_only(frame: pd.DataFrame) -> pd.DataFrame:
    """Mixed batches without a chunk are plain decode attention."""
    out = mixed_attention(frame[frame["prefill_chunk_tokens"] == 0])
    return out.assign(batch=out["decode_batch"], kv_tokens=out["decode_kv_tokens"])


def prefill_only(frame: pd.DataFrame) -> pd.DataFrame:
    """Mixed batches without decodes are plain prefill attention with a cached prefix."""
    out = mixed_attention(frame[frame["decode_batch"] == 0])
    return out.assign(batch=1.0, new_tokens=out["prefill_chunk_tokens"], prefix_tokens=out["prefill_kv_tokens"])
