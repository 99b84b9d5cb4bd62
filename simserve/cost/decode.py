"""Decode attention of a stage: seconds over (sequences, tokens they attend in all), piecewise linear, one row per batch size."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from simserve.cost.altered_attention import altered_decode_seconds
from simserve.cost.cold import decode_read_s
from simserve.cost.grid import geometric
from simserve.cost.kernels import KernelChoice
from simserve.cost.monotone import non_decreasing
from simserve.model.operators import MLA, Attention, IndexerScores

F64 = NDArray[np.float64]

Attending = Attention | MLA | IndexerScores
"""Operators whose time depends on how many cached tokens the sequences have."""

Row = tuple[list[int], list[float], list[float]]
"""Knots in total context tokens, and intercept and slope of the line that begins at each knot."""

_MAX_BATCH = 4096
_FIRST_CONTEXT = 16


class DecodeAttention:
    """All attention layers of one stage.

    A grid over (batch size, context per sequence) is evaluated once. Between its batch sizes and between its contexts, time is linear:
    the measurements behind it are at powers of two. A row for an exact batch size is built when it is first needed. With `replicas`
    (data-parallel attention) each runs an equal part of the batch.
    """

    def __init__(self, kernels: KernelChoice, layers: Iterable[tuple[Attending, int]], max_context_tokens: int, replicas: int = 1) -> None:
        self._replicas = replicas
        self._batches = geometric(1, _MAX_BATCH, 2)
        self._contexts = np.concatenate([[1], geometric(_FIRST_CONTEXT, max(max_context_tokens, 2 * _FIRST_CONTEXT), 3)])
        self._grid = _grid(kernels, list(layers), self._batches.astype(np.float64), self._contexts.astype(np.float64))
        self._rows: dict[int, Row] = {}

    def row(self, sequences: int) -> Row:
        """The line segments for a batch of `sequences` (>= 1)."""
        found = self._rows.get(sequences)
        if found is None:
            found = self._rows[sequences] = self._build(sequences)
        return found

    def seconds(self, sequences: int, context_tokens: int) -> float:
        """Seconds for `sequences` that attend `context_tokens` in all, as if equally long."""
        knots, intercept, slope = self.row(sequences)
        i = bisect_right(knots, context_tokens) - 1
        return intercept[i] + slope[i] * context_tokens

    def _build(self, sequences: int) -> Row:
        batches, per_replica = self._batches, max(1.0, sequences / self._replicas)
        above = min(max(int(np.searchsorted(batches, per_replica)), 1), len(batches) - 1)
        low, high = batches[above - 1], batches[above]
        weight = (per_replica - low) / (high - low)  # beyond the largest batch of the grid the same line goes on
        times = self._grid[above - 1] + weight * (self._grid[above] - self._grid[above - 1])
        totals = sequences * self._contexts.astype(np.float64)
        slope = np.diff(times) / np.diff(totals)
        intercept = times[:-1] - slope * totals[:-1]
        # The first segment also answers below its knot, the last one beyond the table.
        knots = [0, *(int(t) for t in totals[1:-1])]
        return knots, intercept.tolist(), slope.tolist()


def _grid(kernels: KernelChoice, layers: list[tuple[Attending, int]], batches: F64, contexts: F64) -> F64:
    """Seconds of shape (batches, contexts), non-decreasing along both."""
    total = np.zeros((len(batches), len(contexts)))
    batch, context = (a.reshape(-1) for a in np.meshgrid(batches, contexts, indexing="ij"))
    known: dict[Attending, F64] = {}  # layers that differ elsewhere only
    for layer, count in layers:
        if layer not in known:
            if isinstance(layer, IndexerScores):
                known[layer] = index_seconds(kernels, layer, batch=batch, kv_tokens=context)
            else:
                reading = decode_read_s(kernels.profile.device, layer, batch, _tokens_read(kernels, layer, context))
                known[layer] = np.maximum(_layer_seconds(kernels, layer, batch, context), reading)
        total += count * known[layer].reshape(total.shape)
    return non_decreasing(non_decreasing(total, axis=1), axis=0)


def index_seconds(kernels: KernelChoice, layer: IndexerScores, **sizes: F64 | float) -> F64:
    """Seconds of one layer's indexer."""
    heads, width = float(layer.num_heads), float(layer.head_dim)
    return kernels.operator("indexer_scores", "fp8").seconds(num_heads=heads, head_dim=width, **sizes)


def _tokens_read(kernels: KernelChoice, layer: Attention | MLA, context: F64) -> F64:
    """Cached tokens of one sequence that a step reads, in tokens of the layer's own format."""
    if isinstance(layer, MLA):
        return np.minimum(context, layer.topk_tokens) if layer.topk_tokens else context
    return kernels.options.decode_tokens(layer, context)[1]


def _layer_seconds(kernels: KernelChoice, layer: Attention | MLA, batch: F64, context: F64) -> F64:
    if isinstance(layer, MLA):
        keys = np.minimum(context, layer.topk_tokens) if layer.topk_tokens else context
        model = kernels.operator("mla", layer.dtype, kv_dtype=layer.dtype, starting="decode kernel")
        return model.seconds(batch=batch, kv_tokens=keys, num_heads=float(layer.q_heads), decode=1.0)
    stored = kernels.stored_kv("attention_decode", layer.dtype)
    if kernels.options.changes_decode_attention and stored == layer.dtype:
        return altered_decode_seconds(kernels, layer, batch, context)
    return kernels.operator("attention_decode", layer.dtype, kv_dtype=stored).seconds(
        batch=batch,
        kv_tokens=context,
        num_q_heads=float(layer.q_heads),
        num_kv_heads=float(layer.kv_heads),
        head_dim=float(layer.head_dim),
        window_tokens=float(layer.window_tokens),
    )
