"""Drawing progress on stderr: a bar or an overwritten line on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO

PLAIN_EVERY_S = 10.0
REDRAW_S = 0.2
BAR_AFTER_S = 0.5


class Mark(NamedTuple):
    """How far: `done` of `total`, what a plain line says, and what stands beside a bar."""

    done: int
    total: int
    line: str
    beside: str


@contextmanager
def drawn(
    progress: bool | Callable[..., None] | None, mark: Callable[..., Mark], columns: Callable[[], tuple[Any, ...]]
) -> Iterator[Callable[..., None] | None]:
    """The function to call with what `mark` takes: one that draws when `progress` is True, the one given, or None for False.

    `columns` gives the columns of the bar (rich). What is over within half a second shows nothing, so short runs stay short (the bar's
    library is not even loaded).
    """
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    elif sys.stderr.isatty():
        bar = _Bar(mark, columns)
        try:
            yield bar.update
        finally:
            bar.stop()
    else:
        yield _Lines(mark).update


class _Lines:
    """One plain line about every ten seconds."""

    def __init__(self, mark: Callable[..., Mark]) -> None:
        self._mark, self._line = mark, Line(at_once=False)

    def update(self, *state: Any) -> None:
        if self._line.due():
            self._line.draw(self._mark(*state).line)


class _Bar:
    """A bar that appears when what it shows is not over at once."""

    def __init__(self, mark: Callable[..., Mark], columns: Callable[[], tuple[Any, ...]]) -> None:
        self._mark, self._columns = mark, columns
        self._start_s = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def update(self, *state: Any) -> None:
        if self._bar is None and time.monotonic() - self._start_s < BAR_AFTER_S:
            return
        mark = self._mark(*state)
        if self._bar is None:
            self._bar = bars(self._columns(), transient=True)
            self._task = self._bar.add_task("", total=mark.total)
            self._bar.start()
        self._bar.update(self._task, completed=mark.done, total=mark.total, description=mark.beside)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def bars(columns: tuple[Any, ...], transient: bool = False) -> Any:
    """Bars of these columns (`rich.progress.Progress`); transient ones are gone at the end. They stay silent on anything but a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=transient)


class Line:
    """One line that says where a long command is: overwritten on a terminal, a new line about every ten seconds elsewhere.

    `at_once=False` leaves out the first line where it would stay: what is over within ten seconds says nothing there.
    """

    def __init__(self, stream: TextIO | None = None, at_once: bool = True) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._next_s = time.monotonic() + (0.0 if at_once or self._terminal else PLAIN_EVERY_S)
        self._drawn = False

    def due(self) -> bool:
        """Whether it is time for the next line."""
        return time.monotonic() >= self._next_s

    def draw(self, text: str) -> None:
        """Shows the text, cut to a line of 118 columns (160 where it stays)."""
        self._next_s = time.monotonic() + (REDRAW_S if self._terminal else PLAIN_EVERY_S)
        if self._terminal:
            print(f"\r\x1b[K{text[:118]}", end="", file=self._stream, flush=True)
            self._drawn = True
        else:
            print(text[:160], file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        print(text, file=self._stream, flush=True)

    def clear(self) -> None:
        """Takes an overwritten line off the terminal."""
        if self._drawn:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._drawn = False
