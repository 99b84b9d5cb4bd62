"""Where the measurement is, on stderr: points done, failed, the time left."""

from __future__ import annotations

import time
from typing import TextIO

from simserve.calibration.measure.points import Point
from simserve.progress.stderr import Line


class Progress:
    """Counts points and guesses the time left from the points of the last minute or so."""

    def __init__(self, total: int, stream: TextIO | None = None, budget_s: float | None = None) -> None:
        self._line = Line(stream)
        self._total, self._budget_s = total, budget_s
        self._start_s = time.monotonic()
        self._recent: list[tuple[float, int]] = [(self._start_s, 0)]

    def update(self, done: int, failed: int, point: Point) -> None:
        """Called before each point."""
        if not self._line.due():
            return
        now = time.monotonic()
        self._recent = [*self._recent[-20:], (now, done)]
        self._line.draw(f"{done:,} of {self._total:,} points{f', {failed} failed' if failed else ''}{self._left(now, done)}: {point}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self._line.say(text)

    def _left(self, now: float, done: int) -> str:
        then, before = self._recent[0]
        if done <= before:
            return ""
        left_s = (self._total - done) * (now - then) / (done - before)
        if self._budget_s is not None:
            left_s = min(left_s, max(self._budget_s - (now - self._start_s), 0.0))
        return f", {duration(left_s)} left"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `1 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
