"""Attention of one layer: prefill (many new tokens a sequence) and decode (one), every sequence alike."""

from __future__ import annotations

from functools import partial

from simserve.calibration.measure.attention_kernels import PLANS, Batch, Heads
from simserve.calibration.measure.points import Point
from simserve.calibration.measure.timing import Prepared
from simserve.calibration.measure.workbench import UnsupportedError, Workbench

_MAX_CACHE_FRACTION = 0.7  # of the free memory


def prepare_prefill(bench: Workbench, point: Point) -> Prepared:
    """`new_tokens` after `prefix_tokens` cached ones, in each of `batch` sequences."""
    p = point.values
    return _prepare(bench, point, Batch((p["new_tokens"],) * p["batch"], (p["prefix_tokens"],) * p["batch"]))


def prepare_decode(bench: Workbench, point: Point) -> Prepared:
    """One query a sequence that attends `kv_tokens` tokens, itself included."""
    p = point.values
    return _prepare(bench, point, Batch((1,) * p["batch"], (p["kv_tokens"] - 1,) * p["batch"]))


def _prepare(bench: Workbench, point: Point, batch: Batch) -> Prepared:
    p = point.values
    heads = Heads(p["num_q_heads"], p["num_kv_heads"], p["head_dim"], p["window_tokens"], p["dtype"])
    plan_of = PLANS[p["implementation"]]
    if not plan_of.can_run(bench.device):
        raise UnsupportedError(f"attention by {p['implementation']} is not available here")
    size = 4 * int(batch.totals.sum()) * heads.kv_heads * heads.head_dim  # keys and values of 2 bytes
    if size > _MAX_CACHE_FRACTION * bench.device.free_bytes():
        raise UnsupportedError("the KV cache of this point exceeds the memory")
    plan = plan_of(bench.device, heads, batch)
    q = bench.data.one((batch.tokens, heads.q_heads, heads.head_dim), heads.dtype)
    k = bench.data.one((batch.tokens, heads.kv_heads, heads.head_dim), heads.dtype, "keys")
    caches = bench.data.copies(plan.cache_shape(), heads.dtype, role="cache")
    return Prepared([partial(plan.run, q, k, k, cache) for cache in caches], plan.label)
