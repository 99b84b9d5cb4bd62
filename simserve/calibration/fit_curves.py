"""Curves of time over message size: medians of neighbouring measurements at a few dozen knots per topology."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simserve.hardware.curves import Curves

if TYPE_CHECKING:
    import pandas as pd

MAX_KNOTS = 48


def fit_curves(rows: pd.DataFrame, keys: tuple[str, ...], size_column: str) -> Curves:
    """One curve per distinct `keys`. Times do not fall as size grows."""
    curves: dict[tuple[float, ...], tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for key, group in rows.groupby(list(keys), observed=True):
        order = np.argsort(group[size_column].to_numpy(), kind="stable")
        size = np.log(np.maximum(group[size_column].to_numpy(dtype=np.float64)[order], 1.0))
        log_s = np.log(group["seconds"].to_numpy(dtype=np.float64)[order])
        curves[tuple(float(str(v)) for v in key)] = _knots(size, log_s)
    return Curves(keys, size_column, curves)


def _knots(size: NDArray[np.float64], log_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bins of about equal width in log size, denser where there is more data; the median point of each is a knot."""
    distinct = np.unique(size)
    if len(distinct) <= MAX_KNOTS:
        centres = distinct
        values = np.array([np.median(log_s[size == c]) for c in distinct])
    else:
        rank = np.searchsorted(distinct, size) / (len(distinct) - 1)
        span = (size - size[0]) / (size[-1] - size[0])
        place = np.minimum(((0.5 * rank + 0.5 * span) * MAX_KNOTS).astype(int), MAX_KNOTS - 1)
        bins = [place == b for b in np.unique(place)]
        centres = np.array([np.mean(size[b]) for b in bins])
        values = np.array([np.median(log_s[b]) for b in bins])
    return centres, _monotone(_without_spikes(values))


def _without_spikes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A knot more than 1.5 times both neighbours is a disturbed measurement: it is put between them."""
    out = values.copy()
    for i in range(1, len(values) - 1):
        if values[i] - max(out[i - 1], values[i + 1]) > np.log(1.5):
            out[i] = 0.5 * (out[i - 1] + values[i + 1])
    return out


def _monotone(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest non-decreasing sequence (pool adjacent violators, Ayer et al. 1955): more bytes never take less time."""
    level: list[list[float]] = []
    for v in values:
        level.append([float(v), 1.0])
        while len(level) > 1 and level[-2][0] > level[-1][0]:
            mean, count = level.pop()
            level[-1] = [(level[-1][0] * level[-1][1] + mean * count) / (level[-1][1] + count), level[-1][1] + count]
    return np.concatenate([np.full(int(n), mean) for mean, n in level])
