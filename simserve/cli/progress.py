"""Progress of a run on stderr: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PLAIN_EVERY_S = 10.0
BAR_AFTER_S = 0.5


@contextmanager
def shown(quiet: bool = False) -> Iterator[Callable[[int, int, float], None] | None]:
    """The function to call with (requests ended, requests in all, simulated seconds); None when nothing shall be shown.

    A run that ends within half a second shows nothing, so short runs stay short (the bar's library is not even loaded).
    """
    with on_stderr(quiet, _Bar, _Lines) as update:
        yield update


@contextmanager
def on_stderr(quiet: bool, bar: Callable[[], Any], lines: Callable[[], Any]) -> Iterator[Any]:
    """The `update` of a bar on a terminal (stopped at the end), of plain lines elsewhere; None when nothing shall be shown."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        drawn = bar()
        try:
            yield drawn.update
        finally:
            drawn.stop()
    else:
        yield lines().update


class _Lines:
    """One plain line about every ten seconds."""

    def __init__(self) -> None:
        self.next_s = time.monotonic() + PLAIN_EVERY_S

    def update(self, ended: int, total: int, now_s: float) -> None:
        if time.monotonic() >= self.next_s:
            self.next_s = time.monotonic() + PLAIN_EVERY_S
            share = 100 * ended / max(total, 1)
            print(f"{ended:,} of {total:,} requests ({share:.0f} %), simulated {now_s:,.0f} s", file=sys.stderr, flush=True)


class _Bar:
    """A progress bar that appears when the run is not over at once."""

    def __init__(self) -> None:
        self.start_s = time.monotonic()
        self.bar: Any = None
        self.task: Any = None

    def update(self, ended: int, total: int, now_s: float) -> None:
        if self.bar is None:
            if time.monotonic() - self.start_s < BAR_AFTER_S:
                return
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("requests"), TextColumn("{task.description}"), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("", total=total)
            self.bar.start()
        self.bar.update(self.task, completed=ended, total=total, description=f"simulated {now_s:,.0f} s")

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
