"""Progress of a run: requests ended, simulated time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from simserve.progress.stderr import Mark, drawn

Progress = Callable[[int, int, float], None]
"""Called now and then with (requests ended, requests in all, simulated seconds)."""


def shown(progress: bool | Progress | None = True) -> AbstractContextManager[Progress | None]:
    """The function to call with (requests ended, requests in all, simulated seconds): True draws on stderr, a function is called itself;
    None when nothing shall be shown."""
    return drawn(progress, _mark, _columns)


def _mark(ended: int, total: int, now_s: float) -> Mark:
    simulated = f"simulated {now_s:,.0f} s"
    return Mark(ended, total, f"{ended:,} of {total:,} requests ({100 * ended / max(total, 1):.0f} %), {simulated}", simulated)


def _columns() -> tuple[Any, ...]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    return BarColumn(), MofNCompleteColumn(), TextColumn("requests"), TextColumn("{task.description}"), TimeRemainingColumn()
