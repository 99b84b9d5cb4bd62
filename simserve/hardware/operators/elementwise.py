"""Memory-bound work between the matrix multiplications: norms, rotary embedding, activation, residual add, embedding lookup.

`width` is the elements a token is in the operation, `bytes_per_token` what is read and written for it.
"""

from __future__ import annotations

import numpy as np

from simserve.hardware.operators.base import F64, Columns, Context, Operator, log2

_HBM_FRACTION = 0.70


def _traffic(c: Columns) -> F64:
    return c["num_tokens"] * c["bytes_per_token"]


def _bound_s(ctx: Context, c: Columns) -> F64:
    return np.maximum(_traffic(c) - ctx.device.l2_bytes, 0.0) / ctx.device.hbm_bytes_per_s


def _estimate_s(ctx: Context, c: Columns) -> F64:
    return _traffic(c) / (_HBM_FRACTION * ctx.device.hbm_bytes_per_s) + ctx.device.launch_s


def _features(ctx: Context, c: Columns) -> dict[str, F64]:
    return {
        "log_tokens": log2(c["num_tokens"]),
        "log_width": log2(c["width"]),
        "log_elements": log2(c["num_tokens"] * c["width"]),
        "wave_fill": c["num_tokens"] / ctx.device.sms / np.ceil(c["num_tokens"] / ctx.device.sms),
    }


def _ideal_s(ctx: Context, c: Columns) -> tuple[F64, F64]:
    moved = _traffic(c) / ctx.device.hbm_bytes_per_s
    return np.zeros_like(moved), moved


ELEMENTWISE = Operator(
    "elementwise", {"num_tokens": None, "width": None, "bytes_per_token": None}, ("width",), _bound_s, _estimate_s, _features, _ideal_s
)
