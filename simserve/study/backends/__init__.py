"""Where the runs of a study are computed: this process and its workers (joblib), or a Ray or Dask cluster. One call for all."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from simserve.errors import ConfigError, nearest
from simserve.study.task import Outcome, Task

BACKENDS = {"joblib": "joblib_processes", "ray": "ray_cluster", "dask": "dask_cluster"}


def execute(
    tasks: Iterable[Task], count: int, backend: str = "joblib", jobs: int | None = None, address: str | None = None
) -> Iterator[Outcome]:
    """The outcomes of `count` tasks, in the order in which they finish. A worker that dies costs only the runs it was in.

    tasks    taken one by one as workers become free, so they need not all be in memory
    jobs     worker processes (None = one for each core that this process may use)
    address  of a running Ray or Dask cluster (None = start a local one)
    Raises ConfigError for an unknown backend, one whose package is not installed, or an address that does not answer.
    """
    _check(backend, jobs)
    if backend == "joblib" and address is not None:
        raise ConfigError("an address is of a Ray or Dask cluster; the joblib backend runs on this machine only")
    module = importlib.import_module(f"simserve.study.backends.{BACKENDS[backend]}")
    found: Iterator[Outcome] = module.execute(tasks, min(jobs or cores(), max(count, 1)), address)
    return found


def starting(count: int, backend: str = "joblib", jobs: int | None = None) -> AbstractContextManager[None]:
    """Inside, the local workers that `execute` will want for `count` tasks start while the caller prepares these. Only to be sooner.

    Raises ConfigError as `execute`.
    """
    _check(backend, jobs)
    workers = min(jobs or cores(), count)
    if backend != "joblib" or workers < 2:
        return nullcontext()
    from simserve.study.backends import joblib_processes

    return joblib_processes.starting(workers)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(backend: str, jobs: int | None) -> None:
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend '{backend}'{nearest(backend, BACKENDS)}")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs: found {jobs}, expected at least 1")


def not_installed(backend: str, package: str) -> ConfigError:
    """The error for a backend whose package is missing."""
    install = f"pip install '{package}' (the extra '{backend}' of simserve)"
    return ConfigError(f"backend {backend}: the package '{package}' is not installed; install it with: {install}")
