"""Expert dispatch and combine: tokens go to the ranks that hold their experts, and their results come back (DeepEP and its like).

`num_tokens_per_gpu` is counted on the sending rank. `sms` is the number of SMs the kernel may use (0 = its low-latency form).
"""

from __future__ import annotations

import numpy as np

from simserve.hardware.device import DTYPE_BYTES
from simserve.hardware.operators.base import F64, Columns, Context, Operator, log2
from simserve.hardware.operators.collective import link_of

_LINK_FRACTION = 0.6
_FLOOR_S = 12e-6


def ranks_reached(topk: F64, num_experts: F64, num_gpus: F64) -> F64:
    """Expected different ranks that hold the `topk` experts of a token, experts spread evenly and chosen evenly."""
    return num_gpus * (1.0 - (1.0 - 1.0 / num_gpus) ** np.minimum(topk, num_experts))


def _sent_bytes(ctx: Context, c: Columns) -> F64:
    """Bytes that leave a rank: one copy for each other rank (normal), or one for each expert chosen (low latency)."""
    others = (c["num_gpus"] - 1.0) / c["num_gpus"]
    copies = np.where(c["sms"] > 0, ranks_reached(c["topk"], c["num_experts"], c["num_gpus"]), c["topk"])
    return c["num_tokens_per_gpu"] * c["hidden_size"] * DTYPE_BYTES.get(ctx.dtype, 2.0) * copies * others


def _over_link(ctx: Context, c: Columns, fraction: float) -> F64:
    out = np.empty(len(c["num_nodes"]))
    sent = _sent_bytes(ctx, c)
    for nodes in np.unique(c["num_nodes"]):
        rows = c["num_nodes"] == nodes
        link = link_of(ctx.device, float(nodes))
        out[rows] = sent[rows] / (fraction * link.reached_by(c["num_gpus"][rows]))
    return out


def _bound_s(ctx: Context, c: Columns) -> F64:
    # Routing may be luckier than even choice by chance in few tokens: half of the expected bytes is sure.
    return 0.5 * _over_link(ctx, c, 1.0)


def _estimate_s(ctx: Context, c: Columns) -> F64:
    return _over_link(ctx, c, _LINK_FRACTION) + _FLOOR_S


def _features(ctx: Context, c: Columns) -> dict[str, F64]:
    return {
        "log_tokens": log2(c["num_tokens_per_gpu"]),
        "log_hidden": log2(c["hidden_size"]),
        "log_topk": log2(c["topk"]),
        "log_experts": log2(c["num_experts"]),
        "log_gpus": log2(c["num_gpus"]),
        "log_nodes": log2(c["num_nodes"]),
        "sms": c["sms"],
        "log_sent": log2(_sent_bytes(ctx, c)),
        "log_sent_per_sm": log2(_sent_bytes(ctx, c) / np.maximum(c["sms"], 1.0)),
        "log_token_bytes": log2(c["num_tokens_per_gpu"] * c["hidden_size"]),
        "log_rows": log2(c["num_tokens_per_gpu"] * c["topk"]),
    }


def _ideal_s(ctx: Context, c: Columns) -> tuple[F64, F64]:
    moved = _over_link(ctx, c, 1.0)
    return np.zeros_like(moved), moved


_COLUMNS: dict[str, float | None] = {
    "num_tokens_per_gpu": None,
    "hidden_size": None,
    "topk": None,
    "num_experts": None,
    "num_gpus": None,
    "num_nodes": 1.0,
    "sms": 0.0,
}
_SHAPE = ("hidden_size", "topk", "num_experts")

DISPATCH = Operator("moe_dispatch", _COLUMNS, _SHAPE, _bound_s, _estimate_s, _features, _ideal_s)
COMBINE = Operator("moe_combine", _COLUMNS, _SHAPE, _bound_s, _estimate_s, _features, _ideal_s)
