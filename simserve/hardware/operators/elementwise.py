"""Memory-bound work between the matrix multiplications: norms, rotary embedding, activation, residual add, embedding lookup."""

from __future__ import annotations

import numpy as np

from simserve.hardware.operators.base import F64, Columns, Context, Operator, log2

_HBM_SHARE = 0.70


def _traffic(c: Columns) -> F64:
    return c["num_tokens"] * c["bytes_per_token"]


def _bound_s(ctx: Context, c: Columns) -> F64:
    return np.maximum(_traffic(c) - ctx.device.l2_bytes, 0.0) / ctx.device.hbm_bytes_per_s


def _estimate_s(ctx: Context, c: Columns) -> F64:
    return _traffic(c) / (_HBM_SHARE * ctx.device.hbm_bytes_per_s) + ctx.device.launch_s


def _features(ctx: Context, c: Columns) -> dict[str, F64]:
    return {
        "log_tokens": log2(c["num_tokens"]),
        "log_bytes_per_token": log2(c["bytes_per_token"]),
        "log_bytes": log2(_traffic(c)),
        "wave_fill": c["num_tokens"] / ctx.device.sms / np.ceil(c["num_tokens"] / ctx.device.sms),
    }


ELEMENTWISE = Operator(
    "elementwise", {"num_tokens": None, "bytes_per_token": None}, ("bytes_per_token",), _bound_s, _estimate_s, _features
)
