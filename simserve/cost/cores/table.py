"""The token table of a step, and the tiles it is cut into."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.contracts import VERIFY, Step
from simserve.cost.cores.options import TaskTable

F64 = NDArray[np.float64]

Phase = Literal["P", "D", "V"]


class TokenRow(NamedTuple):
    """New tokens of one sequence in a step (a row of XY-Serve's token table).

    phase      P: a chunk of a prompt, D: one token, V: drafted tokens and the one before them
    start      place of the first token among the step's tokens
    tokens     new tokens
    kv_tokens  tokens that the last of them attends, itself included
    tile_rows  tokens of one tile
    """

    phase: Phase
    start: int
    tokens: int
    kv_tokens: int
    tile_rows: int

    @property
    def tiles(self) -> int:
        """Tiles of one head unit."""
        return -(-self.tokens // self.tile_rows)


def token_table(step: Step, options: TaskTable) -> list[TokenRow]:
    """The rows of a step in arrival order: the decoding sequences, which came earlier, then the slices in the order of the plan."""
    rows: list[TokenRow] = []
    start = 0
    widths: Sequence[int] = step.widths() if step.drafted_tokens else (1,) * step.decodes
    for width, context in zip(widths, step.contexts(), strict=True):
        rows.append(TokenRow("D" if width == 1 else "V", start, width, context, tile_rows(width, options)))
        start += width
    for piece in step.slices:
        phase: Phase = "V" if piece.kind == VERIFY else "P"
        new = piece.new_tokens
        rows.append(TokenRow(phase, start, new, piece.context_tokens + new, tile_rows(new, options)))
        start += new
    return rows


def tile_rows(tokens: int, options: TaskTable) -> int:
    """Tokens of a tile: the smallest power of two times the smallest tile that covers them, at most a prefill tile (a verified slice of
    53 tokens is one tile of 64: arXiv 2412.18106)."""
    rows = options.decode_tile_rows
    while rows < min(tokens, options.prefill_tile_rows):
        rows *= 2
    return min(rows, options.prefill_tile_rows)


@lru_cache(maxsize=4096)
def tile_keys(new_tokens: int, context_tokens: int, rows: int, window_tokens: int) -> F64:
    """Keys that each tile of a slice attends: causal, so a tile ends at its own last token; with a window from its first token's window on."""
    starts = np.arange(-(-new_tokens // rows)) * rows
    ends = np.minimum(starts + rows, new_tokens)
    keys = context_tokens + ends
    if window_tokens:
        keys = np.minimum(keys, window_tokens + ends - starts - 1)
    return keys.astype(np.float64)
