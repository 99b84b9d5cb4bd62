"""The stretch of simulated time that is measured: the run without its warm-up and cool-down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simserve.engine.records import F64, RunRecords


@dataclass(frozen=True, slots=True)
class Window:
    """[start_s, end_s] of simulated time. Latencies are those of requests released in it, rates and averages those of this time."""

    start_s: float
    end_s: float
    empty: bool = False
    """Warm-up and cool-down together are longer than the run: no request and no time is measured."""

    @property
    def length_s(self) -> float:
        """Seconds measured; 0 when the cuts leave nothing."""
        return max(0.0, self.end_s - self.start_s)

    def holds(self, time_s: F64) -> NDArray[np.bool_]:
        """Which of the times lie in the window (NaN does not)."""
        inside: NDArray[np.bool_] = (time_s >= self.start_s) & (time_s <= self.end_s)
        return inside & (not self.empty)

    def overlap_s(self, from_s: F64, to_s: F64) -> F64:
        """Seconds of each interval [from_s, to_s] that lie in the window."""
        inside: F64 = np.maximum(0.0, np.minimum(to_s, self.end_s) - np.maximum(from_s, self.start_s))
        return inside


def measured_window(records: RunRecords, warmup_s: float = 0.0, cooldown_s: float = 0.0) -> Window:
    """The run from `warmup_s` after its start to `cooldown_s` before its end; empty, and never of negative times, where that is nothing."""
    end_s = records.end_s - cooldown_s
    if end_s < warmup_s:
        return Window(warmup_s, warmup_s, empty=True)
    return Window(warmup_s, end_s)
