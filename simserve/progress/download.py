"""Progress of downloads: a bar for each file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from simserve.progress.stderr import bars


@contextmanager
def downloads() -> Iterator[Callable[[str, int, int | None], None]]:
    """The function to call with (file name, bytes there, bytes in all); on anything but a terminal nothing is shown."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with bars(columns) as shown:
        tasks: dict[str, Any] = {}

        def update(name: str, have: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(name, total=total)
            shown.update(tasks[name], completed=have, total=total)

        yield update
