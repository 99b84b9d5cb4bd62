"""Progress of a study on stderr: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from simserve.cli.progress import BAR_AFTER_S, PLAIN_EVERY_S, on_stderr
from simserve.study.progress import Step


@contextmanager
def shown(quiet: bool = False) -> Iterator[Callable[[Step], None] | None]:
    """The function to call with each Step; None when nothing shall be shown."""
    with on_stderr(quiet, _Bar, _Lines) as update:
        yield update


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


class _Lines:
    def __init__(self) -> None:
        self.next_s = time.monotonic() + PLAIN_EVERY_S

    def update(self, step: Step) -> None:
        if time.monotonic() >= self.next_s:
            self.next_s = time.monotonic() + PLAIN_EVERY_S
            print(words(step), file=sys.stderr, flush=True)


class _Bar:
    """A bar that appears when the study is not over at once."""

    def __init__(self) -> None:
        self.start_s = time.monotonic()
        self.bar: Any = None
        self.task: Any = None

    def update(self, step: Step) -> None:
        if self.bar is None:
            if time.monotonic() - self.start_s < BAR_AFTER_S:
                return
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self.bar = Progress(BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task("", total=step.total)
            self.bar.start()
        self.bar.update(self.task, completed=step.done, total=step.total, description=words(step))

    def stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
