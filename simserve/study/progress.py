"""How far a study is, for whoever shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class Step(NamedTuple):
    """`eta_s` is None until there is something to judge by. `what` says in a word or two what is being counted."""

    what: str
    done: int
    total: int
    failed: int
    eta_s: float | None


Progress = Callable[[Step], None]


class Meter:
    """Counts finished runs and estimates the rest by the pace of those that were really computed (not found in a cache)."""

    def __init__(self, what: str, total: int, show: Progress | None, found: int = 0) -> None:
        self._what, self._total, self._show = what, total, show
        self._found, self._done, self._failed = found, found, 0
        self._start_s = time.monotonic()
        self._tell()

    def add(self, failed: bool = False) -> None:
        """One more is finished."""
        self._done += 1
        self._failed += failed
        self._tell()

    def _tell(self) -> None:
        if self._show is None:
            return
        computed = self._done - self._found
        eta_s = (time.monotonic() - self._start_s) / computed * (self._total - self._done) if computed else None
        self._show(Step(self._what, self._done, self._total, self._failed, eta_s))
