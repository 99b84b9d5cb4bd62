"""Where the measurement is, on stderr: one line that is overwritten on a terminal, a new line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from simserve.calibration.measure.points import Point

_LINE_EVERY_S = 10.0
_REDRAW_S = 0.2


class Progress:
    """Counts points and guesses the time left from the points of the last minute or so."""

    def __init__(self, total: int, stream: TextIO | None = None, budget_s: float | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._total, self._budget_s = total, budget_s
        self._start_s = time.monotonic()
        self._next_s = self._start_s
        self._recent: list[tuple[float, int]] = [(self._start_s, 0)]
        self._drawn = False

    def update(self, done: int, failed: int, point: Point) -> None:
        """Called before each point."""
        now = time.monotonic()
        if now < self._next_s:
            return
        self._next_s = now + (_REDRAW_S if self._terminal else _LINE_EVERY_S)
        self._recent = [*self._recent[-20:], (now, done)]
        text = f"{done:,} of {self._total:,} points{f', {failed} failed' if failed else ''}{self._left(now, done)}: {point}"
        if self._terminal:
            print(f"\r\x1b[K{text[:118]}", end="", file=self._stream, flush=True)
            self._drawn = True
        else:
            print(text[:160], file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._drawn:
            print("\r\x1b[K", end="", file=self._stream)
            self._drawn = False
        print(text, file=self._stream, flush=True)

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
