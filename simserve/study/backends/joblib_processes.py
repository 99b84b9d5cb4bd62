"""Worker processes on this machine: joblib's loky. Survives workers that are killed."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from simserve.study.task import WORKER_DIED, Outcome, Task, evaluate

_WATCH_EVERY_S = 0.5

_QUIET = "ignore:resource_tracker:UserWarning"
"""A tracker frees what a study that was interrupted has left, and need not say so: a lock that goes while the process ends is none lost."""

_UNUSED = r"\d+ tasks (have been successfully executed  but not used|which were still being processed)"
"""joblib's advice when results are dropped. A study drops them on purpose: at Ctrl-C, at whatever moment that comes, and at an error."""


@contextmanager
def starting(jobs: int) -> Iterator[None]:
    """Inside, the workers start and import what runs need; at the end they are ready, and `execute` finds them."""
    started = _parallel(jobs, _once_each(jobs))
    try:
        yield
    finally:
        _ready(started)


def execute(tasks: Iterable[Task], jobs: int, address: str | None) -> Iterator[Outcome]:
    """Outcomes as they come. With one job everything runs in this process."""
    if jobs == 1:
        yield from map(evaluate, tasks)
        return
    waiting = iter(tasks)
    broken = True
    while broken:
        broken = False
        in_flight: dict[int, Task] = {}
        try:
            for outcome in _parallel(jobs, _feed(waiting, in_flight)):
                in_flight.pop(outcome.number, None)
                yield outcome
        except Exception as error:
            if not _worker_died(error):
                raise
            broken = True
            # One of these few killed its worker, or something else did. Each gets another try alone, so that the culprit names itself.
            for task in in_flight.values():
                yield _alone(task)


def _ready(started: Iterator[None]) -> None:
    """Waits for workers that were started early. One that died meanwhile is replaced when there is work for it."""
    try:
        for _ in started:
            pass
    except Exception as error:
        if not _worker_died(error):
            raise


def _once_each(jobs: int) -> Iterator[Any]:
    from joblib import delayed

    for _ in range(jobs):
        yield delayed(_import_early)()


def _import_early() -> None:
    import simserve.config.assemble
    import simserve.report.result
    import simserve.simulation  # noqa: F401

    _leave_with(os.getppid())


def _in_worker(task: Task) -> Outcome:
    _leave_with(os.getppid())
    return evaluate(task)


@functools.lru_cache(maxsize=1)
def _leave_with(parent: int) -> None:
    """Ends this worker when the study's process has gone: loky's workers outlive a parent that was killed (-9) for minutes."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="leave-with-parent").start()


def _feed(waiting: Iterator[Task], in_flight: dict[int, Task]) -> Iterator[Any]:
    from joblib import delayed

    for task in waiting:
        in_flight[task.number] = task
        yield delayed(_in_worker)(task)


def _parallel(jobs: int, calls: Iterator[Any]) -> Iterator[Any]:
    # Few tasks ahead: what is in flight is what a dying worker can cost.
    return uninterrupted_workers(calls, n_jobs=jobs, return_as="generator_unordered", batch_size=1, pre_dispatch=f"{jobs + 1}")


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


def _alone(task: Task) -> Outcome:
    try:
        outcome: Outcome = next(_parallel(2, _feed(iter([task]), {})))  # n_jobs=1 would run it in this process
        return outcome
    except Exception as error:
        if not _worker_died(error):
            raise
        return Outcome(task.number, None, WORKER_DIED)


def _worker_died(error: Exception) -> bool:
    from joblib.externals.loky.process_executor import BrokenProcessPool

    return isinstance(error, BrokenProcessPool)
