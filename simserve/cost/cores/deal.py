"""Dealing tiles to cores: when the slowest core is done."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from simserve.cost.cores.options import Reorder

F64 = NDArray[np.float64]


def slowest_core_s(seconds: F64, cores: int, reorder: Reorder, load: F64 | None = None) -> float:
    """Seconds until the last of `cores` has done its tiles (0 without tiles).

    seconds  of each tile, in arrival order
    load     what `snake` and `greedy` sort by; default: the seconds

    XY-Serve (arXiv 2412.18106), task table: tiles sorted by load in descending order and dealt to and fro, 1..n, n..1; longest first to
    the core with the least is the alternative it names. `none` deals them 1..n, 1..n in arrival order, as a kernel does in which core i
    takes tiles i, i + n, i + 2n ...
    """
    if not len(seconds):
        return 0.0
    if reorder == "ideal":
        return float(seconds.sum()) / cores
    if reorder == "first-free":
        return _first_free(seconds, cores)
    if reorder in ("snake", "greedy"):
        seconds = seconds[np.argsort(-(seconds if load is None else load), kind="stable")]
    if reorder == "greedy":
        return _first_free(seconds, cores)
    rounds = -(-len(seconds) // cores)
    dealt = np.zeros((rounds, cores))
    dealt.reshape(-1)[: len(seconds)] = seconds
    if reorder == "snake":
        dealt[1::2] = dealt[1::2, ::-1]
    return float(dealt.sum(axis=0).max())


def _first_free(seconds: F64, cores: int) -> float:
    """Each tile starts on the core that is free first: list scheduling (Graham 1969)."""
    if len(seconds) <= cores:
        return float(seconds.max())
    free = sorted(seconds[:cores].tolist())
    for tile in seconds[cores:].tolist():
        heapq.heapreplace(free, free[0] + tile)
    return float(max(free))
