"""Grouped-query attention of one layer on one rank: prefill (many queries a sequence) and decode (one query a sequence).

Causal. Query i (1-based) of a sequence with `prefix_tokens` cached tokens attends prefix + i tokens, at most `window_tokens` (0 = all).
"""

from __future__ import annotations

import numpy as np

from simserve.hardware.device import DTYPE_BYTES
from simserve.hardware.operators.base import F64, Columns, Context, Operator, log2, waves

_NO_WINDOW = 2.0**40
_TILE = 128.0
_PREFILL_PEAK_FRACTION = 0.585
_PREFILL_HBM_FRACTION = 0.5
_PREFILL_DIAGONAL = 0.53
_PREFILL_GLUE = 2.1
_PREFILL_LONGEST = 0.45
_PREFILL_SMOOTH = 1.2
_FLOOR_S = 11.5e-6
_DECODE_HBM_FRACTION = 0.60
_DECODE_HBM_FRACTION_HOPPER = 0.86
_DECODE_SPLIT = 200.0
_DECODE_FILL = 1.7
_DECODE_FILL_POWER = 0.72
_DECODE_PEAK_FRACTION = 0.46
_DECODE_STEP_S = 5.5e-10
_DECODE_SMOOTH = 2.26
"""Constants of the analytic estimates, found on bf16 tables of A100, H100 and H200 over three engines (errors in docs/cost-models.md):
what FlashAttention-class kernels reach of peak and of bandwidth, the half tile computed in vain along the diagonal, the KV write and
other kernels around (in passes over the tokens' elements), the floor of one layer, and how decode splits keys over idle SMs."""

HEADS: dict[str, float | None] = {"num_q_heads": None, "num_kv_heads": None, "head_dim": 128.0, "window_tokens": 0.0}
LAYOUT = ("num_q_heads", "num_kv_heads", "head_dim", "window_tokens")


def attended_pairs(new_tokens: F64, prefix_tokens: F64, window_tokens: F64) -> F64:
    """(query, key) pairs of one sequence: sum over its new tokens of min(prefix + i, window)."""
    window = np.where(window_tokens > 0, window_tokens, _NO_WINDOW)
    free = np.clip(window - prefix_tokens, 0.0, new_tokens)  # queries that do not reach the window yet
    return free * prefix_tokens + free * (free + 1.0) / 2.0 + (new_tokens - free) * np.where(window_tokens > 0, window, 0.0)


def _kv_bytes(ctx: Context) -> float:
    return DTYPE_BYTES.get(ctx.kv_dtype, 2.0)


def _prefill_work(ctx: Context, c: Columns) -> tuple[F64, F64]:
    """FLOPs and bytes of the whole batch."""
    b, new, prefix = c["batch"], c["new_tokens"], c["prefix_tokens"]
    pairs = attended_pairs(new, prefix, c["window_tokens"])
    flops = 4.0 * b * c["num_q_heads"] * c["head_dim"] * pairs
    window = np.where(c["window_tokens"] > 0, c["window_tokens"], _NO_WINDOW)
    keys = np.minimum(prefix, window) + new
    traffic = b * c["head_dim"] * (4.0 * new * c["num_q_heads"] + 2.0 * _kv_bytes(ctx) * keys * c["num_kv_heads"])
    return flops, traffic


def _decode_work(ctx: Context, c: Columns) -> tuple[F64, F64]:
    window = np.where(c["window_tokens"] > 0, c["window_tokens"], _NO_WINDOW)
    keys = np.minimum(np.maximum(c["kv_tokens"], 1.0), window)
    flops = 4.0 * c["batch"] * c["num_q_heads"] * c["head_dim"] * keys
    traffic = c["batch"] * c["head_dim"] * (4.0 * c["num_q_heads"] + 2.0 * _kv_bytes(ctx) * keys * c["num_kv_heads"])
    return flops, traffic


def _bound(ctx: Context, flops: F64, traffic: F64) -> F64:
    cold = np.maximum(traffic - ctx.device.l2_bytes, 0.0)
    return np.maximum(flops / ctx.device.peak(ctx.dtype), cold / ctx.device.hbm_bytes_per_s)


def _prefill_bound_s(ctx: Context, c: Columns) -> F64:
    return _bound(ctx, *_prefill_work(ctx, c))


def _decode_bound_s(ctx: Context, c: Columns) -> F64:
    return _bound(ctx, *_decode_work(ctx, c))


def _prefill_estimate_s(ctx: Context, c: Columns) -> F64:
    flops, traffic = _prefill_work(ctx, c)
    device, new = ctx.device, c["new_tokens"]
    rate = _PREFILL_PEAK_FRACTION * device.peak(ctx.dtype)
    rows = c["batch"] * c["num_q_heads"] * c["head_dim"]
    padded = flops + 4.0 * rows * _PREFILL_DIAGONAL * 0.5 * _TILE * np.ceil(new / _TILE) * _TILE
    window = np.where(c["window_tokens"] > 0, c["window_tokens"], _NO_WINDOW)
    longest = 4.0 * c["head_dim"] * _TILE * np.minimum(c["prefix_tokens"] + new, window) / (rate / device.sms)
    compute = np.maximum(padded / rate, _PREFILL_LONGEST * longest)
    memory = traffic / (_PREFILL_HBM_FRACTION * device.hbm_bytes_per_s)
    busy = (compute**_PREFILL_SMOOTH + memory**_PREFILL_SMOOTH) ** (1.0 / _PREFILL_SMOOTH)
    glue = 2.0 * c["batch"] * new * (c["num_q_heads"] + 2.0 * c["num_kv_heads"]) * c["head_dim"] / device.hbm_bytes_per_s
    return busy + _PREFILL_GLUE * glue + _FLOOR_S


def _decode_estimate_s(ctx: Context, c: Columns) -> F64:
    flops, traffic = _decode_work(ctx, c)
    window = np.where(c["window_tokens"] > 0, c["window_tokens"], _NO_WINDOW)
    keys = np.minimum(np.maximum(c["kv_tokens"], 1.0), window)
    units = c["batch"] * c["num_kv_heads"] * np.ceil(keys / _DECODE_SPLIT)
    filled = np.minimum(1.0, units / ctx.device.sms / _DECODE_FILL) ** _DECODE_FILL_POWER
    fraction = _DECODE_HBM_FRACTION_HOPPER if ctx.device.architecture == "Hopper" else _DECODE_HBM_FRACTION
    memory = traffic / (fraction * ctx.device.hbm_bytes_per_s * filled)
    compute = flops / (_DECODE_PEAK_FRACTION * ctx.device.peak(ctx.dtype))
    busy = (memory**_DECODE_SMOOTH + compute**_DECODE_SMOOTH) ** (1.0 / _DECODE_SMOOTH)
    return busy + _DECODE_STEP_S * np.minimum(keys, _DECODE_SPLIT) + _FLOOR_S


def _head_features(c: Columns) -> dict[str, F64]:
    return {
        "log_batch": log2(c["batch"]),
        "log_q_heads": log2(c["num_q_heads"]),
        "log_kv_heads": log2(c["num_kv_heads"]),
        "log_head_dim": log2(c["head_dim"]),
        "log_group": log2(c["num_q_heads"] / c["num_kv_heads"]),
        "log_window": log2(c["window_tokens"]),
    }


def _prefill_features(ctx: Context, c: Columns) -> dict[str, F64]:
    b, new, prefix, q, kv = c["batch"], c["new_tokens"], c["prefix_tokens"], c["num_q_heads"], c["num_kv_heads"]
    flops, traffic = _prefill_work(ctx, c)
    window = np.where(c["window_tokens"] > 0, c["window_tokens"], _NO_WINDOW)
    out = _head_features(c) | {
        "log_new": log2(new),
        "log_prefix": log2(prefix + 1.0),
        "log_keys": log2(prefix + new),
        "log_pairs": log2(attended_pairs(new, prefix, c["window_tokens"])),
        "log_flops": log2(flops),
        "log_bytes": log2(traffic),
        "log_tokens": log2(b * new),
        "log_rows": log2(b * q),
        "log_query_elements": log2(b * new * q * c["head_dim"]),
        "log_kv_elements": log2(b * (prefix + new) * kv * c["head_dim"]),
        "log_token_elements": log2(b * new * (q + 2.0 * kv) * c["head_dim"]),
        "window_reach": log2(np.minimum(window / (prefix + new), 2.0)),
        "compute_over_memory": log2(flops / ctx.device.peak(ctx.dtype) / (traffic / ctx.device.hbm_bytes_per_s)),
        "log_estimate": log2(_prefill_estimate_s(ctx, c)),
    }
    for tile in (64, 128):
        blocks = {"": b * q * np.ceil(new / tile), "packed_": b * kv * np.ceil(new * q / kv / tile)}
        for kind, count in blocks.items():  # packed: the query heads of one KV head share a tile
            fractional, whole = waves(count, ctx.device.sms)
            out[f"log_waves_{kind}{tile}"] = log2(fractional)
            out[f"wave_fill_{kind}{tile}"] = fractional / whole
        out[f"row_padding_{tile}"] = np.ceil(new / tile) * tile / new
    return out


def _decode_features(ctx: Context, c: Columns) -> dict[str, F64]:
    b, kv_tokens, q, kv = c["batch"], np.maximum(c["kv_tokens"], 1.0), c["num_q_heads"], c["num_kv_heads"]
    flops, traffic = _decode_work(ctx, c)
    window = np.where(c["window_tokens"] > 0, c["window_tokens"], _NO_WINDOW)
    keys = np.minimum(kv_tokens, window)
    out = _head_features(c) | {
        "log_context": log2(kv_tokens),
        "log_keys": log2(keys),
        "log_skipped": log2(kv_tokens / keys),
        "log_flops": log2(flops),
        "log_bytes": log2(traffic),
        "log_rows": log2(b * kv),
        "log_query_rows": log2(b * q),
        "log_kv_of_sequence": log2(keys * kv * c["head_dim"]),
        "log_keys_of_batch": log2(b * keys),
        "log_query_elements": log2(b * q * c["head_dim"]),
        "log_estimate": log2(_decode_estimate_s(ctx, c)),
    }
    blocks = {"kv": b * kv, "q": b * q, "packed": b * kv * np.ceil(q / kv / 64)}
    blocks |= {f"split{n}": b * kv * np.ceil(keys / n) for n in (64, 128, 256, 512)}  # flash-decoding splits the keys over SMs
    for kind, count in blocks.items():
        fractional, whole = waves(count, ctx.device.sms)
        out[f"log_waves_{kind}"] = log2(fractional)
        out[f"wave_fill_{kind}"] = fractional / whole
    return out


def _ideal(ctx: Context, work: tuple[F64, F64]) -> tuple[F64, F64]:
    flops, traffic = work
    return flops / ctx.device.peak(ctx.dtype), traffic / ctx.device.hbm_bytes_per_s


def _prefill_ideal_s(ctx: Context, c: Columns) -> tuple[F64, F64]:
    return _ideal(ctx, _prefill_work(ctx, c))


def _decode_ideal_s(ctx: Context, c: Columns) -> tuple[F64, F64]:
    return _ideal(ctx, _decode_work(ctx, c))


PREFILL = Operator(
    "attention_prefill",
    {"batch": 1.0, "new_tokens": None, "prefix_tokens": 0.0, **HEADS},
    LAYOUT,
    _prefill_bound_s,
    _prefill_estimate_s,
    _prefill_features,
    _prefill_ideal_s,
)
DECODE = Operator(
    "attention_decode",
    {"batch": None, "kv_tokens": None, **HEADS},
    LAYOUT,
    _decode_bound_s,
    _decode_estimate_s,
    _decode_features,
    _decode_ideal_s,
)
