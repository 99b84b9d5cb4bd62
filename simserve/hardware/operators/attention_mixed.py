"""One attention call over a prefill chunk and a batch of decodes together, as engines with chunked prefill issue it.

The chunk has `prefill_chunk_tokens` queries after `prefill_kv_tokens` cached ones (0 = no chunk); `decode_batch` sequences attend
`decode_kv_tokens` each (0 = none).
"""

from __future__ import annotations

import numpy as np

from simserve.hardware.operators.attention import DECODE, HEADS, LAYOUT, PREFILL
from simserve.hardware.operators.base import F64, Columns, Context, Operator


def _parts(c: Columns) -> tuple[Columns, Columns, F64, F64]:
    """Inputs of the two halves, and which rows have each."""
    heads = {name: c[name] for name in HEADS}
    chunk, batch = c["prefill_chunk_tokens"], c["decode_batch"]
    prefill = heads | {"batch": np.ones(len(chunk)), "new_tokens": np.maximum(chunk, 1.0), "prefix_tokens": c["prefill_kv_tokens"]}
    decode = heads | {"batch": np.maximum(batch, 1.0), "kv_tokens": c["decode_kv_tokens"]}
    return prefill, decode, (chunk > 0).astype(np.float64), (batch > 0).astype(np.float64)


def _bound_s(ctx: Context, c: Columns) -> F64:
    prefill, decode, has_prefill, has_decode = _parts(c)
    return np.maximum(has_prefill * PREFILL.bound_s(ctx, prefill), has_decode * DECODE.bound_s(ctx, decode))


def _estimate_s(ctx: Context, c: Columns) -> F64:
    prefill, decode, has_prefill, has_decode = _parts(c)
    one, other = has_prefill * PREFILL.estimate_s(ctx, prefill), has_decode * DECODE.estimate_s(ctx, decode)
    return np.maximum(one, other) + 0.5 * np.minimum(one, other)


def _features(ctx: Context, c: Columns) -> dict[str, F64]:
    prefill, decode, has_prefill, has_decode = _parts(c)
    out = {f"prefill_{k}": v * has_prefill for k, v in PREFILL.features(ctx, prefill).items()}
    out |= {f"decode_{k}": v * has_decode for k, v in DECODE.features(ctx, decode).items()}
    one, other = has_prefill * PREFILL.estimate_s(ctx, prefill), has_decode * DECODE.estimate_s(ctx, decode)
    return out | {"has_prefill": has_prefill, "has_decode": has_decode, "prefill_share": one / np.maximum(one + other, 1e-12)}


_COLUMNS: dict[str, float | None] = {
    "prefill_chunk_tokens": None,
    "prefill_kv_tokens": 0.0,
    "decode_batch": None,
    "decode_kv_tokens": 0.0,
    **HEADS,
}

MIXED = Operator("attention_mixed", _COLUMNS, LAYOUT, _bound_s, _estimate_s, _features)
