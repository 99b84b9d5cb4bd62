"""Progress of something that is counted, on one line of stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from simserve.progress.stderr import Line


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """The function to call with (done, in all): a line that is rewritten on a terminal, one every ten seconds and a last one elsewhere."""
    line = Line(at_once=False)

    def update(done: int, total: int) -> None:
        if line.due() or done >= total:
            line.draw(f"{done:,} of {total:,} {what}")

    yield update
    line.clear()
