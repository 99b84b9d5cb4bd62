"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434) of one layer on one rank, in DeepSeek-V3's dimensions.

Prefill works on up-projected keys and values (192 and 128 elements a head); decode is absorbed: every head reads the same latent of
512 + 64 elements a token. `kv_tokens` counts all keys of a sequence, its new tokens included. A row is the attention kernel alone
(`projection_bytes` 0) or the whole layer with its projections, whose weights take `projection_bytes` an element.
"""

from __future__ import annotations

import numpy as np

from simserve.hardware.device import DTYPE_BYTES
from simserve.hardware.operators.attention import attended_pairs
from simserve.hardware.operators.base import F64, Columns, Context, Operator, log2, waves

_LATENT, _ROPE, _NOPE, _VALUE = 512.0, 64.0, 128.0, 128.0
_HIDDEN, _QUERY_RANK = 7168.0, 1536.0
_PEAK_FRACTION, _HBM_FRACTION = 0.55, 0.75
_FLOOR_S = 6e-6
_MODULE_FLOOR_S = 40e-6


def _attention(ctx: Context, c: Columns) -> tuple[F64, F64]:
    """FLOPs and bytes of the attention kernel."""
    b, new, keys, heads = c["batch"], c["new_tokens"], np.maximum(c["kv_tokens"], 1.0), c["num_heads"]
    kv = DTYPE_BYTES.get(ctx.kv_dtype, 2.0)
    decode = c["decode"] > 0
    pairs = attended_pairs(new, np.maximum(keys - new, 0.0), np.zeros(len(new)))
    flops = np.where(decode, 2.0 * b * heads * keys * (2 * _LATENT + _ROPE), 2.0 * b * heads * pairs * (_NOPE + _ROPE + _VALUE))
    traffic = np.where(
        decode,
        b * (keys * (_LATENT + _ROPE) * kv + 2.0 * heads * (2 * _LATENT + _ROPE)),
        2.0 * b * heads * (2.0 * new * (_NOPE + _ROPE) + keys * (_NOPE + _ROPE + _VALUE)),
    )
    return flops, traffic


def _projections(c: Columns) -> tuple[F64, F64]:
    """FLOPs and weight bytes of the layer's projections, zero for kernel rows."""
    heads = c["num_heads"]
    weights = _HIDDEN * (_QUERY_RANK + _LATENT + _ROPE) + _QUERY_RANK * heads * (_NOPE + _ROPE)
    weights = weights + _LATENT * heads * (_NOPE + _VALUE) + heads * _VALUE * _HIDDEN
    module = c["projection_bytes"] > 0
    tokens = c["batch"] * c["new_tokens"]
    return np.where(module, 2.0 * tokens * weights, 0.0), weights * c["projection_bytes"]


def _bound_s(ctx: Context, c: Columns) -> F64:
    flops, traffic = _attention(ctx, c)
    projection_flops, projection_bytes = _projections(c)
    stored = c["projection_bytes"]
    projection_peak = np.where(stored == 1.0, ctx.device.peak("fp8"), ctx.device.peak("bf16"))
    projection_peak = np.where((stored > 0) & (stored < 1.0), ctx.device.peak("w4a4_nvfp4"), projection_peak)
    # An fp8 cache may be multiplied in fp8.
    peak = ctx.device.peak("fp8" if ctx.kv_dtype == "fp8" else ctx.dtype)
    compute = flops / peak + projection_flops / projection_peak
    cold = np.maximum(traffic + projection_bytes - ctx.device.l2_bytes, 0.0)
    return np.maximum(compute, cold / ctx.device.hbm_bytes_per_s)


def _estimate_s(ctx: Context, c: Columns) -> F64:
    flops, traffic = _attention(ctx, c)
    projection_flops, projection_bytes = _projections(c)
    peak, bandwidth = _PEAK_FRACTION * ctx.device.peak(ctx.dtype), _HBM_FRACTION * ctx.device.hbm_bytes_per_s
    attention = np.maximum(flops / peak, traffic / bandwidth)
    projection = np.maximum(projection_flops / peak, projection_bytes / bandwidth)
    return attention + projection + np.where(c["projection_bytes"] > 0, _MODULE_FLOOR_S, _FLOOR_S)


def _features(ctx: Context, c: Columns) -> dict[str, F64]:
    b, new, keys, heads = c["batch"], c["new_tokens"], np.maximum(c["kv_tokens"], 1.0), c["num_heads"]
    flops, traffic = _attention(ctx, c)
    out = {
        "log_batch": log2(b),
        "log_new": log2(new),
        "log_keys": log2(keys),
        "log_prefix": log2(np.maximum(keys - new, 0.0) + 1.0),
        "log_heads": log2(heads),
        "log_tokens": log2(b * new),
        "log_keys_of_batch": log2(b * keys),
        "log_rows": log2(b * heads),
        "log_query_rows": log2(b * heads * new),
        "log_flops": log2(flops),
        "log_bytes": log2(traffic),
        "log_intensity": log2(flops / traffic),
        "log_estimate": log2(_estimate_s(ctx, c)),
    }
    blocks = {"rows": b * heads * np.ceil(new / 128), "packed": b * np.ceil(heads / 64)}
    blocks |= {f"split{n}": b * np.ceil(keys / n) for n in (64, 128, 256)}
    for kind, count in blocks.items():
        fractional, whole = waves(count, ctx.device.sms)
        out[f"log_waves_{kind}"] = log2(fractional)
        out[f"wave_fill_{kind}"] = fractional / whole
    return out


def _ideal_s(ctx: Context, c: Columns) -> tuple[F64, F64]:
    flops, traffic = _attention(ctx, c)
    more_flops, more_traffic = _projections(c)
    return (flops + more_flops) / ctx.device.peak(ctx.dtype), (traffic + more_traffic) / ctx.device.hbm_bytes_per_s


MLA = Operator(
    "mla",
    {"batch": 1.0, "new_tokens": 1.0, "kv_tokens": None, "num_heads": None, "decode": None, "projection_bytes": 0.0},
    ("num_heads", "decode"),
    _bound_s,
    _estimate_s,
    _features,
    _ideal_s,
)
