"""The deterministic check split: whole shapes first, then single points of the remaining ones. The same on every machine, for ever."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

TRAIN, POINTS, SHAPES = 0, 1, 2
SHAPE_FRACTION, POINT_FRACTION = 0.10, 0.12
DESCRIPTION = "hash of the inputs: about 10 % of whole shapes and 12 % of the other points held out; shipped coefficients use all rows"


def _mix(rows: NDArray[np.float64]) -> NDArray[np.uint64]:
    """A 64-bit hash of each row (splitmix64 finaliser, Steele et al. 2014), uniform enough to split by."""
    state = np.full(len(rows), 0x243F6A8885A308D3, dtype=np.uint64)
    for column in np.ascontiguousarray(rows.T):
        state ^= column.view(np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def fraction(frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    """A number in [0, 1) for each row, from its values in `columns` alone."""
    values = np.round(frame[list(columns)].to_numpy(dtype=np.float64), 6) + 0.0
    return _mix(values).astype(np.float64) / 2.0**64


def split(frame: pd.DataFrame, shape: Sequence[str], columns: Sequence[str]) -> NDArray[np.int8]:
    """TRAIN, POINTS or SHAPES for each row. Shapes are held out across all backends, since they share kernels.

    With fewer than 5 shapes in the frame none is held out whole: there would be too little left to learn from.
    """
    out = np.zeros(len(frame), dtype=np.int8)
    out[fraction(frame, columns) < POINT_FRACTION] = POINTS
    if len(frame[list(shape)].drop_duplicates()) >= 5:
        out[fraction(frame, shape) < SHAPE_FRACTION] = SHAPES
    return out
