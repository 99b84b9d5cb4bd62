"""Worker processes on this machine (joblib's loky) that Ctrl-C ends without a word of theirs."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_QUIET = "ignore:resource_tracker:UserWarning"
"""A tracker frees what a study that was interrupted has left, and need not say so: a lock that goes while the process ends is none lost."""

_UNUSED = r"\d+ tasks (have been successfully executed  but not used|which were still being processed)"
"""joblib's advice when results are dropped. A study drops them on purpose: at Ctrl-C, at whatever moment that comes, and at an error."""


def uninterrupted_workers(calls: Iterable[Any], **options: Any) -> Iterator[Any]:
    """joblib's generator of results, from workers that Ctrl-C does not reach.

    A terminal sends SIGINT to the whole process group. Only the study's own process shall take it: it ends the workers, which would
    each print a traceback otherwise. The set of blocked signals passes on to child processes, also to those that loky's manager thread
    starts later, because that thread is made here too (pthread_sigmask(3), execve(2)).
    """
    with _interrupts_blocked():
        from multiprocessing import resource_tracker

        from joblib import Parallel
        from joblib.externals.loky.backend import resource_tracker as of_loky

        for tracker in (resource_tracker, of_loky):  # the standard one lets SIGINT through again when it has started its own process
            with _said_by_trackers(_QUIET):
                tracker.ensure_running()
    warnings.filterwarnings("ignore", message=_UNUSED, category=UserWarning, module=r"joblib\.parallel")
    with _interrupts_blocked():
        found: Iterator[Any] = Parallel(backend="loky", **options)(calls)
    return found


@contextmanager
def _said_by_trackers(filters: str) -> Iterator[None]:
    """Child processes that start inside have these warning filters, over those of the environment."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = filters if not before else f"{before},{filters}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """SIGINT waits until the block has ended."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: there is no way to hold it back
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
