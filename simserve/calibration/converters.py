"""How the rows of each published table become rows of an operator. docs/cost-models.md lists the tables and their columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from simserve.calibration.model_layers import decode_only, layer_elementwise, layer_gemms, mixed_attention, prefill_only

if TYPE_CHECKING:
    import pandas as pd


class Converter(NamedTuple):
    """`convert` adds the columns of `operator` (and `latency_us`) to a table that has the columns `needs`."""

    operator: str
    needs: tuple[str, ...]
    convert: Callable[[Any], Any]


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def _decode(frame: pd.DataFrame) -> pd.DataFrame:
    """LLMServingSim counts the KV tokens of the whole batch (its time depends on kv_tokens / batch); others those of one sequence."""
    out = frame.copy()
    total = out["backend"].astype(str).str.startswith("LLMServingSim")
    out["kv_tokens"] = out["kv_tokens"].where(~total, out["kv_tokens"] / out["batch"])
    return out


def _collective(frame: pd.DataFrame) -> pd.DataFrame:
    out = frame.copy()
    if "gpus_per_node_used" not in out:
        out["gpus_per_node_used"] = 0.0
    out["gpus_per_node_used"] = out["gpus_per_node_used"].astype(float).fillna(0.0)
    if "collective" in out:
        out["operator"] = out["collective"].astype(str).replace({"reducescatter": "reduce_scatter"})
    if "library" in out:
        out["kernel"] = out["library"].astype(str)
    return out


_PASSES = {"emb": 2, "add": 3, "input_layernorm": 4, "post_attention_layernorm": 4, "attn_rope": 2, "mlp_act": 3}
"""16-bit tensors of the operation's width that are read and written, as `simserve.model` counts them (norms with the residual add)."""


def _elementwise(frame: pd.DataFrame) -> pd.DataFrame:
    """Width and bytes per token of one rank from the model's dimensions."""
    import numpy as np

    out = frame.copy()
    op, tp, hidden = out["op"].astype(str), out["tensor_parallel"], out["hidden_size"]
    heads = (out["num_heads"] + out["num_kv_heads"]) * hidden / out["num_heads"]
    width = np.select([op == "attn_rope", op == "mlp_act"], [heads / tp, out["mlp_hidden_size"] / tp], default=hidden)
    out["width"] = width
    out["bytes_per_token"] = 2.0 * width * op.map(_PASSES).astype(float)
    out["kernel"] = op
    return out


_PROJECTION_BYTES = {"none": 0.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "fp8_block128": 1.0, "w4a4_nvfp4": 0.5625}
"""Bytes of one weight of latent attention's projections, by the type they are multiplied in."""


def _mla(frame: pd.DataFrame) -> pd.DataFrame:
    out = frame.copy()
    phase, scope, gemm = (out[c].astype(str) for c in ("phase", "scope", "gemm_dtype"))
    out["decode"] = (phase == "decode").astype(float)
    out["projection_bytes"] = gemm.map(_PROJECTION_BYTES).astype(float)
    out.loc[scope == "kernel", "projection_bytes"] = 0.0
    kernel = out["kernel"].astype(str) if "kernel" in out else ""
    out["kernel"] = phase + " " + scope + " " + gemm.where(scope == "module", "") + " " + kernel
    out["kernel"] = out["kernel"].str.split().str.join(" ")
    return out


def _moe(frame: pd.DataFrame) -> pd.DataFrame:
    """`distribution` to the exponent of its power law; `balanced` and `uniform` are 0."""
    out = frame.copy()
    exponent = out["distribution"].astype(str).str.extract(r"power_law_([0-9.]+)$", expand=False)
    out["skew"] = exponent.astype(float).fillna(0.0)
    return out


def _moe_layers(frame: pd.DataFrame) -> pd.DataFrame:
    out = _moe(frame)
    out["kernel"] = out["kernel"].astype(str) + " " + out["measurement"].astype(str)
    return out


def _moe_grouped(frame: pd.DataFrame) -> pd.DataFrame:
    out = frame.copy()
    out["num_tokens"] = out["tokens_per_gpu"] * out["num_gpus"]
    out["expert_parallel"] = out["num_gpus"]
    out["latency_us"] = out["up_proj_us"] + out["down_proj_us"]
    out["kernel"] = out["layout"].astype(str)
    return out


def _exchange(part: str) -> Callable[[Any], Any]:
    def convert(frame: pd.DataFrame) -> pd.DataFrame:
        out = frame.copy()
        out["latency_us"] = out[f"{part}_us"]
        out["dtype"] = out[f"{part}_dtype"].astype(str)
        out["sms"] = out[f"{part}_sms"].astype(float).fillna(0.0) if f"{part}_sms" in out else 0.0
        out["kernel"] = out["mode"].astype(str)
        return out

    return convert


_GEMM = Converter("gemm", ("m", "n", "k", "dtype", "latency_us"), _plain)
_PREFILL = Converter("attention_prefill", ("new_tokens", "num_q_heads", "num_kv_heads", "latency_us"), _plain)
_DECODE = Converter("attention_decode", ("batch", "kv_tokens", "num_q_heads", "num_kv_heads", "latency_us"), _decode)
_LAYERS = ("layer", "tokens", "model", "tensor_parallel", "latency_us")
_MIXED = ("prefill_chunk_tokens", "prefill_kv_tokens", "decode_batch", "decode_kv_tokens", "model", "tensor_parallel", "latency_us")
_SIZES = ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts")

FILES: dict[str, tuple[Converter, ...]] = {
    "gemm": (_GEMM,),
    "gemm_model_layers": (_GEMM,),
    "gemm_large_square": (_GEMM,),
    "attention_prefill": (_PREFILL,),
    "attention_prefill_model_layers": (_PREFILL,),
    "attention_decode": (_DECODE,),
    "attention_decode_model_layers": (_DECODE,),
    "mla": (Converter("mla", ("phase", "scope", "batch", "kv_tokens", "num_heads", "gemm_dtype", "latency_us"), _mla),),
    "moe": (Converter("moe", (*_SIZES, "distribution", "latency_us"), _moe),),
    "moe_model_layers": (Converter("moe_grouped_gemm", (*_SIZES, "distribution", "kernel", "measurement", "latency_us"), _moe_layers),),
    "moe_grouped_gemm": (
        Converter("moe_grouped_gemm", ("tokens_per_gpu", "num_gpus", "layout", "up_proj_us", "down_proj_us"), _moe_grouped),
    ),
    "moe_dispatch_combine": tuple(
        Converter(f"moe_{part}", ("mode", "num_tokens_per_gpu", "num_gpus", f"{part}_us", f"{part}_dtype"), _exchange(part))
        for part in ("dispatch", "combine")
    ),
    "elementwise_model_layers": (
        Converter("elementwise", ("op", "num_tokens", "tensor_parallel", "hidden_size", "mlp_hidden_size", "latency_us"), _elementwise),
    ),
    "dense_model_layers": (Converter("gemm", _LAYERS, layer_gemms), Converter("elementwise", _LAYERS, layer_elementwise)),
    "attention_mixed_batch": (
        Converter("attention_mixed", _MIXED, mixed_attention),
        Converter("attention_decode", _MIXED, decode_only),
        Converter("attention_prefill", _MIXED, prefill_only),
    ),
    "all_reduce": (Converter("all_reduce", ("message_bytes", "num_gpus", "latency_us"), _collective),),
    "all_to_all": (Converter("all_to_all", ("message_bytes", "num_gpus", "latency_us"), _collective),),
    "all_gather_reduce_scatter": (Converter("all_gather", ("collective", "message_bytes", "num_gpus", "latency_us"), _collective),),
    "collectives": (Converter("all_gather", ("collective", "message_bytes", "num_gpus", "latency_us"), _collective),),
    "p2p": (Converter("p2p", ("message_bytes", "latency_us"), _collective),),
}
"""File stem -> the operators its rows describe."""

ALIASES = {"moe_dispatch_combine": {"batch": "num_tokens_per_gpu"}}
"""Other names that published tables use for a column."""

UNSUPPORTED = {"moe_model_layers": "activated_experts"}
"""Variants of a table that no operator describes, told by a column: expert layers by the number of experts activated."""
