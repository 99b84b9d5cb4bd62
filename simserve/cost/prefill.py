"""Prefill attention of a stage: seconds of a chunk over (new tokens, context tokens before it), bilinear in a table."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from simserve.contracts import Slice
from simserve.cost.decode import Attending, index_seconds
from simserve.cost.grid import geometric
from simserve.cost.kernels import KernelChoice
from simserve.cost.monotone import non_decreasing
from simserve.hardware.kernel_model import KernelModel
from simserve.hardware.operators.attention import attended_pairs
from simserve.model.operators import MLA, Attention, IndexerScores

F64 = NDArray[np.float64]

_MANY = 32.0
"""Sequences in a batch that fills the device: what one more chunk adds is read off a batch of this many."""

_REFERENCE_TOKENS = 4096.0
"""Prompt at which two backends' large-prompt speeds are compared."""

_MOST_ROWS = 1 << 14  # remembered: a megabyte or two

Cell = tuple[int, int, float, float, float, float]
"""Seconds between two contexts, of chunks of two sizes: the first context, how far on the second is, and of either size the seconds at the
first and what the second adds."""


class PrefillAttention:
    """All attention layers of one stage. A step with several chunks runs them in one kernel, so it costs the most expensive chunk alone
    plus what each other chunk adds to a device that is busy already."""

    def __init__(self, kernels: KernelChoice, layers: Iterable[tuple[Attending, int]], max_context_tokens: int, replicas: int = 1) -> None:
        self._replicas = replicas
        limit = max(max_context_tokens, 64)
        self._new = np.concatenate([[1], geometric(16, limit, 4)])
        self._context = np.concatenate([[0], geometric(64, limit, 2)])
        shape = (len(self._new), len(self._context))
        alone, added = np.zeros(shape), np.zeros(shape)
        knots = self._new.astype(np.float64), self._context.astype(np.float64)
        known: dict[Attending, tuple[F64, F64]] = {}  # layers that differ elsewhere only
        for layer, count in layers:
            for piece in kernels.options.prefill_pieces(layer) if isinstance(layer, Attention) else (layer,):
                if piece not in known:
                    known[piece] = _tables(kernels, piece, *knots)
                one, more = known[piece]
                alone += count * one
                added += count * more
        self._new_knots: list[int] = self._new.tolist()
        self._context_knots: list[int] = self._context.tolist()
        self._alone = _cells(self._context_knots, alone)
        self._added = _cells(self._context_knots, np.minimum(added, alone))
        self._inner = self._context_knots[1:-1]  # the first and the last cells go on beyond the table
        self._rows: dict[int, tuple[float, list[Cell], list[Cell]]] = {}

    def seconds(self, prefills: Sequence[Slice]) -> float:
        """Seconds of all chunks of a step (at least one)."""
        if len(prefills) == 1:
            new, context, _, _, _ = prefills[0]
            x, cells, _ = self._rows.get(new) or self._row(new)
            below, height, low, low_more, high, high_more = cells[bisect_right(self._inner, context)]
            y = (context - below) / height
            low += y * low_more
            return low + x * ((high + y * high_more) - low)
        most_expensive = extra = 0.0
        most_expensive_added = 0.0
        for new, context, _, _, _ in prefills:
            x, cells, more = self._rows.get(new) or self._row(new)
            place = bisect_right(self._inner, context)
            alone, added = _at(cells[place], x, context), _at(more[place], x, context)
            extra += added
            if alone > most_expensive:
                most_expensive, most_expensive_added = alone, added
        # Data-parallel replicas share the chunks: that with the most expensive one takes others when the mean replica has more to do.
        beside = extra / self._replicas - most_expensive_added
        return most_expensive + beside if beside > 0.0 else most_expensive

    def _row(self, new: int) -> tuple[float, list[Cell], list[Cell]]:
        """Where chunks of so many tokens are between two sizes of the table, and the cells there."""
        xs = self._new_knots
        i = bisect_right(xs, new, 1, len(xs) - 1) - 1
        if len(self._rows) >= _MOST_ROWS:
            self._rows.clear()
        row = self._rows[new] = ((new - xs[i]) / (xs[i + 1] - xs[i]), self._alone[i], self._added[i])
        return row


def _cells(contexts: list[int], seconds: F64) -> list[list[Cell]]:
    """A table of shape (new, context) as cells of shape (new - 1, context - 1)."""
    rows = seconds.tolist()
    return [
        [
            (contexts[j], contexts[j + 1] - contexts[j], low[j], low[j + 1] - low[j], high[j], high[j + 1] - high[j])
            for j in range(len(contexts) - 1)
        ]
        for low, high in itertools.pairwise(rows)
    ]


def _at(cell: Cell, x: float, context: int) -> float:
    below, height, low, low_more, high, high_more = cell
    y = (context - below) / height
    a = low + y * low_more
    return a + x * ((high + y * high_more) - a)


def _tables(kernels: KernelChoice, layer: Attending, new: F64, context: F64) -> tuple[F64, F64]:
    """Seconds of one layer of shape (new, context): alone, and added to a busy device."""
    if isinstance(layer, MLA):
        return _latent_tables(kernels, layer, new, context)
    if isinstance(layer, IndexerScores):
        return _index_tables(kernels, layer, new, context)
    return _layer_tables(kernels, layer, new, context)


def _index_tables(kernels: KernelChoice, layer: IndexerScores, new: F64, context: F64) -> tuple[F64, F64]:
    grid_new, grid_context = (a.reshape(-1) for a in np.meshgrid(new, context, indexing="ij"))
    shape = (len(new), len(context))
    alone, many = (
        index_seconds(kernels, layer, batch=batch, new_tokens=grid_new, kv_tokens=grid_new + grid_context).reshape(shape)
        for batch in (1.0, _MANY)
    )
    return alone, many / _MANY


def _layer_tables(kernels: KernelChoice, layer: Attention, new: F64, context: F64) -> tuple[F64, F64]:
    heads = {
        "num_q_heads": float(layer.q_heads),
        "num_kv_heads": float(layer.kv_heads),
        "head_dim": float(layer.head_dim),
        "window_tokens": float(layer.window_tokens),
    }
    model = kernels.operator("attention_prefill", layer.dtype, kv_dtype=kernels.stored_kv("attention_prefill", layer.dtype))
    first = non_decreasing(model.seconds(new_tokens=new, **heads))
    many = non_decreasing(model.seconds(new_tokens=new, batch=_MANY, **heads)) / _MANY
    growth = _context_growth(kernels, model, heads, new, context)
    pairs = attended_pairs(new[:, None], context[None, :], np.array(heads["window_tokens"]))
    # On a busy device a pair costs what it costs in the largest prompt, however short this chunk is.
    largest = attended_pairs(new[-1:], np.zeros(1), np.array(heads["window_tokens"]))
    busy = (pairs - pairs[:, :1]) * (many[-1] / largest[0])
    alone = first[:, None] + growth
    added = many[:, None] + np.minimum(busy, growth)
    return non_decreasing(non_decreasing(alone, 1), 0), non_decreasing(non_decreasing(added, 1), 0)


def _latent_tables(kernels: KernelChoice, layer: MLA, new: F64, context: F64) -> tuple[F64, F64]:
    """The same for multi-head latent attention. It was measured without a context only: a pair with the context is taken to cost what
    a pair of a long prompt costs, and more when the chunk has too few rows to fill the device."""
    heads = float(layer.q_heads)
    # trtllm's rows: sglang's were timed in the absorbed form (3 times the work), which engines do not use for prompts.
    model = kernels.operator("mla", layer.dtype, kv_dtype=layer.dtype, starting="prefill kernel default")
    first = non_decreasing(model.seconds(new_tokens=new, kv_tokens=new, num_heads=heads, decode=0.0))
    many = non_decreasing(model.seconds(new_tokens=new, kv_tokens=new, batch=_MANY, num_heads=heads, decode=0.0)) / _MANY
    window = np.array(float(layer.topk_tokens))
    pairs = attended_pairs(new[:, None], context[None, :], window)
    largest = float(new[-1] * (new[-1] + 1.0) / 2.0)
    busy = (pairs - pairs[:, :1]) * (many[-1] / largest)
    idle = np.maximum(1.0, kernels.profile.device.sms / (heads * np.ceil(new / 128.0)))[:, None]
    alone, added = first[:, None] + busy * idle, many[:, None] + busy
    return non_decreasing(non_decreasing(alone, 1), 0), non_decreasing(non_decreasing(added, 1), 0)


def _context_growth(kernels: KernelChoice, model: KernelModel, heads: dict[str, float], new: F64, context: F64) -> F64:
    """Seconds that a cached context adds to a chunk, shape (new, context).

    Few backends were measured with a context. For the others the growth is taken from one that was, on the same kind of device, and
    scaled by how fast the two are on a long prompt without context; a window scales it by the pairs that are left.
    """
    grid_new, grid_context = (a.reshape(-1) for a in np.meshgrid(new, context, indexing="ij"))
    shape = (len(new), len(context))
    if model.entry is None or model.entry.with_prefix:
        direct = model.seconds(new_tokens=grid_new, prefix_tokens=grid_context, **heads).reshape(shape)
        return non_decreasing(np.maximum(direct - direct[:, :1], 0.0), 1)
    full = heads | {"window_tokens": 0.0}
    measured = kernels.prefix_attention(model.context.dtype) or KernelModel(model.operator, model.context)
    times = measured.seconds(new_tokens=grid_new, prefix_tokens=grid_context, **full).reshape(shape)
    growth = non_decreasing(np.maximum(times - times[:, :1], 0.0), 1)
    reference = min(_REFERENCE_TOKENS, float(new[-1]))
    scale = float(model.seconds(new_tokens=reference, **full)[0] / measured.seconds(new_tokens=reference, **full)[0])
    if heads["window_tokens"] > 0:
        window = np.array(heads["window_tokens"])
        left = attended_pairs(new[:, None], context[None, :], window) - attended_pairs(new[:, None], np.zeros((1, 1)), window)
        whole = new[:, None] * np.maximum(context[None, :], 1.0)
        growth = growth * np.clip(left / whole, 0.0, 1.0)
    return scale * growth
