"""The routed experts of one layer on one rank: top-k, permute, grouped gate+up and down GEMMs, weighted sum. No communication.

`num_tokens` counts the tokens of the whole expert-parallel group. A rank runs num_tokens * topk / expert_parallel routed rows through
its num_experts / expert_parallel experts of width inter_size / tensor_parallel. `skew` is the exponent of the popularity's power law
(0 = balanced). The steps around the GEMMs run over all num_tokens * topk rows whatever expert_parallel is.
"""

from __future__ import annotations

import numpy as np

from simserve.hardware.device import DTYPE_BYTES
from simserve.hardware.operators.base import F64, Columns, Context, Operator, log2, waves

_PEAK_FRACTION, _HBM_FRACTION = 0.60, 0.75
_ROW_PASSES = 6.0
_FLOOR_S = 20e-6
TILE_ROWS = (16, 32, 64, 128)


def experts_hit(c: Columns) -> F64:
    """Experts of one rank that get at least one token: balanced routing spreads the routed rows over as many experts as there are; with
    a skewed popularity, the expectation of independent even choices is the starting point (a fit learns what skew does)."""
    held = np.maximum(c["num_experts"] / c["expert_parallel"], 1.0)
    rows = c["num_tokens"] * c["topk"] / c["expert_parallel"]
    chosen = held * (1.0 - (1.0 - np.minimum(c["topk"] / c["num_experts"], 1.0)) ** c["num_tokens"])
    return np.clip(np.where(c["skew"] > 0, chosen, rows), 1.0, held)


def _work(ctx: Context, c: Columns) -> tuple[F64, F64, F64]:
    """Routed rows on the rank, FLOPs and weight bytes read."""
    rows = c["num_tokens"] * c["topk"] / c["expert_parallel"]
    of_one = 3.0 * c["hidden_size"] * c["inter_size"] / c["tensor_parallel"]
    return rows, 2.0 * rows * of_one, experts_hit(c) * of_one * DTYPE_BYTES.get(ctx.dtype, 2.0)


def _bound_s(ctx: Context, c: Columns) -> F64:
    # The measured rank can be luckier than the mean one, and experts without a gate have two matrices of three: half the work is sure.
    _, flops, weights = _work(ctx, c)
    cold = np.maximum(0.5 * weights - ctx.device.l2_bytes, 0.0)
    return np.maximum(0.5 * flops / ctx.device.peak(ctx.dtype), cold / ctx.device.hbm_bytes_per_s)


def _estimate_s(ctx: Context, c: Columns) -> F64:
    rows, flops, weights = _work(ctx, c)
    hit = experts_hit(c)
    padded = np.maximum(hit * np.ceil(rows / hit / 16.0) * 16.0, rows)  # each expert's rows fill whole tiles
    compute = flops * padded / np.maximum(rows, 1e-9) / (_PEAK_FRACTION * ctx.device.peak(ctx.dtype))
    memory = weights / (_HBM_FRACTION * ctx.device.hbm_bytes_per_s)
    around = _ROW_PASSES * 2.0 * c["num_tokens"] * c["topk"] * c["hidden_size"] / ctx.device.hbm_bytes_per_s
    return np.maximum(compute, memory) + around + _FLOOR_S


def _features(ctx: Context, c: Columns) -> dict[str, F64]:
    t, topk, experts, ep = c["num_tokens"], c["topk"], c["num_experts"], c["expert_parallel"]
    h, inter = c["hidden_size"], c["inter_size"] / c["tensor_parallel"]
    rows, flops, weights = _work(ctx, c)
    hit = experts_hit(c)
    per_expert = rows / hit
    out = {
        "log_tokens": log2(t),
        "log_hidden": log2(h),
        "log_inter": log2(inter),
        "log_topk": log2(topk),
        "log_experts": log2(experts),
        "log_held": log2(experts / ep),
        "log_expert_parallel": log2(ep),
        "log_rows": log2(rows),
        "log_all_rows": log2(t * topk),
        "log_hit": log2(hit),
        "share_hit": hit / np.maximum(experts / ep, 1.0),
        "log_rows_of_expert": log2(per_expert),
        "log_mean_rows": log2(t * topk / experts),
        "log_flops": log2(flops),
        "log_weights": log2(weights),
        "log_of_one": log2(h * inter),
        "log_intensity": log2(flops / weights),
        "log_row_bytes": log2(t * topk * h),
        "skew": c["skew"],
        "log_estimate": log2(_estimate_s(ctx, c)),
    }
    for tile in TILE_ROWS:
        blocks = hit * np.ceil(per_expert / tile) * np.ceil(2.0 * inter / 128)
        fractional, whole = waves(blocks, ctx.device.sms)
        out[f"log_waves_{tile}"] = log2(fractional)
        out[f"wave_fill_{tile}"] = fractional / whole
        out[f"log_padding_{tile}"] = log2(np.ceil(per_expert / tile) * tile / per_expert)
    return out


def _ideal_s(ctx: Context, c: Columns) -> tuple[F64, F64]:
    """Each expert's rows fill tiles of 16. The weights that are read, and the routed rows' passes around the multiplications; 4-bit weights
    that are multiplied in 16 bits are written in 16 bits and read again where the vector units that widen them share no memory with the
    matrix units but L2 (Ascend 910B and 910C)."""
    rows, flops, weights = _work(ctx, c)
    hit = experts_hit(c)
    padded = np.maximum(hit * np.ceil(rows / hit / 16.0) * 16.0, rows)
    around = _ROW_PASSES * 2.0 * rows * c["hidden_size"]
    widened = ctx.device.architecture == "Ascend" and ctx.dtype.startswith("w4a16")
    apart = 2.0 * 2.0 * weights / DTYPE_BYTES[ctx.dtype] if widened else 0.0
    compute = flops * padded / np.maximum(rows, 1e-9) / ctx.device.peak(ctx.dtype)
    return compute, (weights + around + apart) / ctx.device.hbm_bytes_per_s


_COLUMNS: dict[str, float | None] = {
    "num_tokens": None,
    "hidden_size": None,
    "inter_size": None,
    "topk": None,
    "num_experts": None,
    "tensor_parallel": 1.0,
    "expert_parallel": 1.0,
    "skew": 0.0,
}
_SHAPE = ("hidden_size", "inter_size", "topk", "num_experts")

MOE = Operator("moe", _COLUMNS, _SHAPE, _bound_s, _estimate_s, _features, _ideal_s)
GROUPED_GEMM = Operator("moe_grouped_gemm", _COLUMNS, _SHAPE, _bound_s, _estimate_s, _features)
"""The expert GEMMs alone, as some profilers time them."""
