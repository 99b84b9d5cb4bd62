"""The token table of a step, and the tiles it is cut into."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.contracts import VERIFY, Step
from simserve.cost.cores.options import TaskTable

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

PREFILL, DECODING, VERIFYING = 0, 1, 2


class Rows(NamedTuple):
    """The token table (XY-Serve, arXiv 2412.18106) as columns: each row is the new tokens of one sequence in a step.

    phase      0 a chunk of a prompt (P), 1 one token (D), 2 drafted tokens and the one before them (V)
    start      place of the first token among the step's tokens
    tokens     new tokens
    kv_tokens  tokens that the last of them attends, itself included
    tile_rows  tokens of one tile
    """

    phase: I64
    start: I64
    tokens: I64
    kv_tokens: I64
    tile_rows: I64

    def of(self, phase: int) -> Rows:
        """The rows of one phase."""
        chosen = self.phase == phase
        return Rows(*(column[chosen] for column in self))


def token_table(step: Step, options: TaskTable) -> Rows:
    """The rows of a step in arrival order: the decoding sequences, which came earlier, then the slices in the order of the plan."""
    widths = np.array(step.widths(), dtype=np.int64) if step.drafted_tokens else np.ones(step.decodes, dtype=np.int64)
    contexts = np.array(step.contexts(), dtype=np.int64)
    if not step.slices:
        return _rows(np.where(widths > 1, VERIFYING, DECODING), widths, contexts, options)
    new = np.array([piece.new_tokens for piece in step.slices], dtype=np.int64)
    kv = new + np.array([piece.context_tokens for piece in step.slices], dtype=np.int64)
    phases = np.array([VERIFYING if piece.kind == VERIFY else PREFILL for piece in step.slices], dtype=np.int64)
    phase = np.concatenate([np.where(widths > 1, VERIFYING, DECODING), phases])
    return _rows(phase, np.concatenate([widths, new]), np.concatenate([contexts, kv]), options)


def decoding_rows(contexts: I64, options: TaskTable) -> Rows:
    """The rows of sequences that decode one token each and attend so many."""
    ones = np.ones(len(contexts), dtype=np.int64)
    return _rows(ones * DECODING, ones, contexts, options)


def _rows(phase: I64, tokens: I64, kv_tokens: I64, options: TaskTable) -> Rows:
    return Rows(phase, np.cumsum(tokens) - tokens, tokens, kv_tokens, tile_rows(tokens, options))


def tile_rows(tokens: I64, options: TaskTable) -> I64:
    """Tokens of a tile: the smallest power of two times the smallest tile that covers them, at most a prefill tile (a verified slice of
    53 tokens is one tile of 64: arXiv 2412.18106)."""
    needed = np.minimum(tokens, options.prefill_tile_rows)
    rows = np.full(len(tokens), options.decode_tile_rows, dtype=np.int64)
    while (small := rows < needed).any():
        rows[small] *= 2
    return np.minimum(rows, options.prefill_tile_rows)


class Tiles(NamedTuple):
    """Tiles of one head unit, in arrival order.

    row   of the token table
    keys  that a tile attends: those of its last token, with a window from that of its first token on
    only  whether it is its sequence's only tile, so that no other reads the same keys
    """

    row: I64
    keys: I64
    only: NDArray[np.bool_]


def tiles(rows: Rows, window_tokens: int) -> Tiles:
    """The tiles of a token table. Causal: a tile ends at its own last token."""
    counts = -(-rows.tokens // rows.tile_rows)
    row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = place * rows.tile_rows[row]
    ends = np.minimum(starts + rows.tile_rows[row], rows.tokens[row])
    keys = rows.kv_tokens[row] - rows.tokens[row] + ends
    if window_tokens:
        keys = np.minimum(keys, window_tokens + ends - starts - 1)
    return Tiles(row, keys, (counts == 1)[row])
