"""How many requests waited, or were in the system, over the time of a run whose requests come in pieces."""

from __future__ import annotations

import math

import numpy as np

from simserve.engine.records import F64
from simserve.report.window import Window

_MOST_POINTS = 4096
"""Points of the integral that are kept, evenly spread over the run: a quarter of it is known to a thousandth."""


class Level:
    """The number of open intervals over time, of intervals that are told in any order up to a known time.

    start_s  of the window over which `integral_s` and `most` are taken
    """

    __slots__ = ("_area", "_change", "_every", "_level", "_points", "_since_s", "_start_s", "_time", "integral_s", "most")

    def __init__(self, start_s: float) -> None:
        self._start_s = start_s
        self._time, self._change = np.empty(0), np.empty(0, dtype=np.int64)
        self._level = 0
        self._since_s = 0.0
        self._area = 0.0
        self._every = 1
        self._points = np.zeros((2, 1))
        """Times, and the integral of the level up to each."""
        self.integral_s = 0.0
        self.most = 0

    def add(self, from_s: F64, to_s: F64, known_s: float) -> None:
        """More intervals. All that begin before `known_s` have been told, these among them."""
        self.integral_s += float(Window(self._start_s, math.inf).overlap_s(from_s, to_s).sum())
        some = to_s > from_s
        from_s, to_s = from_s[some], to_s[some]
        time = np.concatenate([self._time, from_s, to_s])
        ones = np.ones(len(from_s), dtype=np.int64)
        change = np.concatenate([self._change, ones, -ones])
        ready = time < known_s
        self._time, self._change = time[~ready], change[~ready]
        order = np.argsort(time[ready], kind="stable")
        self._pass(time[ready][order], change[ready][order])

    def _pass(self, time: F64, change: np.ndarray) -> None:
        if not len(time):
            return
        level = self._level + np.cumsum(change)
        last = np.append(time[1:] != time[:-1], True)  # simultaneous changes are one
        time, level = time[last], level[last]
        before = np.concatenate([[self._level], level[:-1]])
        area = self._area + np.cumsum(before * np.diff(np.concatenate([[self._since_s], time])))
        seen = before[time > self._start_s]
        self.most = max(self.most, int(seen.max(initial=0)))
        self._points = np.concatenate([self._points, (time[:: self._every], area[:: self._every])], axis=1)
        while self._points.shape[1] > 2 * _MOST_POINTS:
            self._points = self._points[:, ::2].copy()
            self._every *= 2
        self._level, self._since_s, self._area = int(level[-1]), float(time[-1]), float(area[-1])

    def close(self) -> None:
        """There are no more intervals."""
        self.add(np.empty(0), np.empty(0), math.inf)
        if self._since_s >= self._start_s:
            self.most = max(self.most, self._level)
        self._points = np.concatenate([self._points, [[self._since_s], [self._area]]], axis=1)

    def means(self, edges: F64) -> tuple[float, ...]:
        """The mean level between each two of these times, once all has been told."""
        time, area = self._points
        found = np.diff(np.interp(edges, time, area)) / np.diff(edges)
        return tuple(found.tolist())
