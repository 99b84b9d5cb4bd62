"""Attention batch by batch: prompts, verified and decoding sequences in kernels of their own, and moving tensors between them.

What an engine does without a kernel for mixed batches (XY-Serve's baseline, arXiv 2412.18106): the step's queries, keys and values are
split by phase, the pages of prompts' contexts are gathered into contiguous tensors, the kernels run one after the other, and their
outputs are merged.
"""

from __future__ import annotations

import numpy as np

from simserve.cost.cores.options import TaskTable
from simserve.cost.cores.table import DECODING, Rows
from simserve.hardware.device import DTYPE_BYTES, Device
from simserve.hardware.operators.attention import attended_pairs
from simserve.model.operators import Attention


class Separate:
    """One attention layer of one rank."""

    def __init__(self, device: Device, layer: Attention, options: TaskTable) -> None:
        self._layer = layer
        self._options = options
        self._peak = device.peak(layer.dtype)
        self._bytes_per_s = device.hbm_share * device.hbm_bytes_per_s
        self._launch_s = device.launch_s
        self._head_bytes = layer.head_dim * DTYPE_BYTES[layer.dtype]

    def moving_s(self, rows: Rows, phases: int) -> float:
        """Seconds of splitting, rearranging and merging, each a kernel that reads and writes what it moves.

        Splitting (queries, keys and values of the new tokens) and merging (outputs) are needed where there is more than one phase,
        rearranging (keys and values of the whole context) for every slice of a prompt and every verified one that has a context.
        """
        layer = self._layer
        tokens = float(rows.tokens.sum())
        pages = (rows.phase != DECODING) & (rows.kv_tokens > rows.tokens)
        moved = [2.0 * float(rows.kv_tokens[pages].sum()) * layer.kv_heads] if pages.any() else []
        if phases > 1:
            moved += [tokens * (layer.q_heads + 2.0 * layer.kv_heads), tokens * layer.q_heads]
        return sum(self._launch_s + 2.0 * heads * self._head_bytes / self._bytes_per_s for heads in moved)

    def computing_s(self, rows: Rows) -> float | None:
        """Seconds of one phase's arithmetic at the stated fractions of peak; None for decodes and where none are stated."""
        options, layer = self._options, self._layer
        plain, prefix, chunked = options.plain_mfu, options.prefix_mfu, options.chunked_mfu
        if rows.phase[0] == DECODING or plain is None or prefix is None or chunked is None:
            return None
        tokens, context = rows.tokens.astype(np.float64), (rows.kv_tokens - rows.tokens).astype(np.float64)
        mfu = np.where(context == 0.0, plain, np.where(context < tokens, prefix, chunked))
        pairs = attended_pairs(tokens, context, np.array(float(layer.window_tokens)))
        return float((4.0 * layer.q_heads * layer.head_dim * pairs / (mfu * self._peak)).sum())
