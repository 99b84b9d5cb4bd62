"""Attention batch by batch: prompts, verified and decoding sequences in kernels of their own, and moving tensors between them.

What an engine does without a kernel for mixed batches (XY-Serve's baseline, arXiv 2412.18106): the step's queries, keys and values are
split by phase, the pages of prompts' contexts are gathered into contiguous tensors, the kernels run one after the other, and their
outputs are merged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simserve.cost.cores.options import TaskTable
from simserve.cost.cores.table import TokenRow
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

    def moving_s(self, phases: Sequence[Sequence[TokenRow]]) -> float:
        """Seconds of splitting, rearranging and merging, each a kernel that reads and writes what it moves.

        Splitting (queries, keys and values of the new tokens) and merging (outputs) are needed where there is more than one phase,
        rearranging (keys and values of the whole context) for every slice of a prompt and every verified one that has a context.
        """
        layer = self._layer
        tokens = sum(row.tokens for rows in phases for row in rows)
        gathered = sum(row.kv_tokens for rows in phases for row in rows if row.phase != "D" and row.kv_tokens > row.tokens)
        moved = [2.0 * gathered * layer.kv_heads] if gathered else []
        if len(phases) > 1:
            moved += [tokens * (layer.q_heads + 2.0 * layer.kv_heads), float(tokens * layer.q_heads)]
        return sum(self._launch_s + 2.0 * heads * self._head_bytes / self._bytes_per_s for heads in moved)

    def computing_s(self, rows: Sequence[TokenRow]) -> float | None:
        """Seconds of one phase's arithmetic at the stated fractions of peak; None for decodes and where none are stated."""
        options, layer = self._options, self._layer
        plain, prefix, chunked = options.plain_mfu, options.prefix_mfu, options.chunked_mfu
        if rows[0].phase == "D" or plain is None or prefix is None or chunked is None:
            return None
        seconds = 0.0
        for row in rows:
            context = row.kv_tokens - row.tokens
            mfu = plain if not context else prefix if context < row.tokens else chunked
            new, before, window = (np.array([float(value)]) for value in (row.tokens, context, layer.window_tokens))
            pairs = float(attended_pairs(new, before, window)[0])
            seconds += 4.0 * layer.q_heads * layer.head_dim * pairs / (mfu * self._peak)
        return seconds
