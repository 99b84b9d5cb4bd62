"""Confidence intervals of means."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """(mean, low, high): Student's t interval of the mean. Of a single value the interval is not known: infinite on both sides.

    Equal values give an interval of no width: there is no chance in them.
    """
    known = np.asarray(values, dtype=np.float64)
    mean = float(known.mean())
    if len(known) == 1:
        return mean, -math.inf, math.inf
    spread = float(known.std(ddof=1))
    if spread == 0:
        return mean, mean, mean
    from scipy.stats import t

    half = float(t.ppf(0.5 + confidence / 2, len(known) - 1)) * spread / math.sqrt(len(known))
    return mean, mean - half, mean + half
