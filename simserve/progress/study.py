"""How far a study is: counted, and shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from simserve.progress.stderr import Mark, drawn


class Step(NamedTuple):
    """`eta_s` is None until there is something to judge by. `what` says in a word or two what is being counted."""

    what: str
    done: int
    total: int
    failed: int
    eta_s: float | None


Progress = Callable[[Step], None]


def shown(progress: bool | Progress | None = True) -> AbstractContextManager[Progress | None]:
    """The function to call with each Step: True draws on stderr, a function is called itself; None when nothing shall be shown."""
    return drawn(progress, _mark, _columns)


def words(step: Step) -> str:
    """'120 of 200 runs (60 %), 2 failed, 1:20 left'."""
    text = f"{step.done:,} of {step.total:,} {step.what} ({100 * step.done / max(step.total, 1):.0f} %)"
    if step.failed:
        text += f", {step.failed:,} failed"
    if step.eta_s is not None and step.done < step.total:
        minutes, seconds = divmod(round(step.eta_s), 60)
        hours, minutes = divmod(minutes, 60)
        text += f", {f'{hours}:{minutes:02}' if hours else minutes}:{seconds:02} left"
    return text


def _mark(step: Step) -> Mark:
    text = words(step)
    return Mark(step.done, step.total, text, text)


def _columns() -> tuple[Any, ...]:
    from rich.progress import BarColumn, TextColumn

    return BarColumn(), TextColumn("{task.description}")


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
