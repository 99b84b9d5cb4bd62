"""Where tables are computed: knots, between which times are interpolated linearly."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


@lru_cache(maxsize=8)
def token_knots(limit: int) -> I64:
    """Token counts at which tiled kernels can change their time: every small count, then the last and first row of each tile.

    Kernels process rows in tiles of 16 to 256, so between t + 1 and t + 16 (later 64, 128, 256) rows the work is constant.
    """
    counts = set(range(1, 17))
    for start, stop, step in ((16, 512, 16), (512, 2048, 64), (2048, 8192, 128), (8192, 1 << 40, 256)):
        tiles = range(start, min(stop, limit) + 1, step)
        counts.update(tiles)
        counts.update(t + 1 for t in tiles)
    return np.array(sorted(c for c in counts | {limit} if c <= limit), dtype=np.int64)


def geometric(first: int, last: int, per_octave: int) -> I64:
    """Integers from `first` to `last`, `per_octave` to each doubling."""
    octaves = np.log2(last / first)
    values = first * 2.0 ** (np.arange(int(np.ceil(octaves * per_octave)) + 1) / per_octave)
    whole = np.minimum(np.rint(values), last).astype(np.int64)
    return np.array(sorted(set(whole.tolist())), dtype=np.int64)  # `np.unique` would load masked arrays
