"""Scores of a sparse-attention indexer of one layer (DeepSeek-V3.2-Exp) and the selection of the best tokens.

Every query is multiplied with the small fp8 key of every token before it, by `num_heads` heads of `head_dim`; the weighted sums, one
fp32 number a pair, are written and read for the top-k. `kv_tokens` counts all keys of a sequence, its new tokens included. It was
not measured for us: fractions of peak and bandwidth are those of other attention kernels.
"""

from __future__ import annotations

import numpy as np

from simserve.hardware.operators.attention import attended_pairs
from simserve.hardware.operators.base import F64, Columns, Context, Operator, log2

_PEAK_FRACTION, _HBM_FRACTION = 0.5, 0.75
_SCORE_BYTES = 12.0
"""A score of 4 bytes is written once and read twice by the selection."""
_KERNELS = 3.0
"""Quantising the query, the scores, the selection."""


def _work(c: Columns) -> tuple[F64, F64, F64]:
    """FLOPs, bytes of keys, and scores of the batch."""
    new, keys = c["new_tokens"], np.maximum(c["kv_tokens"], 1.0)
    pairs = c["batch"] * attended_pairs(new, np.maximum(keys - new, 0.0), np.zeros(len(new)))
    return 2.0 * pairs * c["num_heads"] * c["head_dim"], c["batch"] * keys * c["head_dim"], pairs


def _bound_s(ctx: Context, c: Columns) -> F64:
    flops, keys, _ = _work(c)
    return np.maximum(flops / ctx.device.peak("fp8"), np.maximum(keys - ctx.device.l2_bytes, 0.0) / ctx.device.hbm_bytes_per_s)


def _estimate_s(ctx: Context, c: Columns) -> F64:
    flops, keys, pairs = _work(c)
    arithmetic = flops / (_PEAK_FRACTION * ctx.device.peak("fp8"))
    memory = (keys + _SCORE_BYTES * pairs) / (_HBM_FRACTION * ctx.device.hbm_bytes_per_s)
    return np.maximum(arithmetic, memory) + _KERNELS * ctx.device.launch_s


def _features(ctx: Context, c: Columns) -> dict[str, F64]:
    flops, keys, pairs = _work(c)
    return {
        "log_batch": log2(c["batch"]),
        "log_new": log2(c["new_tokens"]),
        "log_flops": log2(flops),
        "log_keys": log2(keys),
        "log_pairs": log2(pairs),
        "log_estimate": log2(_estimate_s(ctx, c)),
    }


INDEXER = Operator(
    "indexer_scores",
    {"batch": 1.0, "new_tokens": 1.0, "kv_tokens": None, "num_heads": None, "head_dim": None},
    ("num_heads", "head_dim"),
    _bound_s,
    _estimate_s,
    _features,
)
