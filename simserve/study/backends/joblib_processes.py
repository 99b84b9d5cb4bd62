"""Worker processes on this machine: joblib's loky. Survives workers that are killed."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from simserve.study.task import WORKER_DIED, Outcome, Task, evaluate
from simserve.workers import uninterrupted_workers

_WATCH_EVERY_S = 0.5


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
