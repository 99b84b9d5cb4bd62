"""A Dask cluster: a running one, or one of local processes that exists as long as the study."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

from simserve.errors import ConfigError
from simserve.study.backends import not_installed
from simserve.study.backends.remote import asks_for_digest, refuse_other_versions
from simserve.study.task import WORKER_DIED, Outcome, Task, evaluate

_AHEAD = 2  # tasks in flight for each worker: no worker waits for work, and memory stays small
_CONNECT_TIMEOUT_S = 20


def execute(tasks: Iterable[Task], jobs: int, address: str | None) -> Iterator[Outcome]:
    """Outcomes as they come. Raises ConfigError when Dask is not installed, does not answer, or its workers have another simserve."""
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise not_installed("dask", "distributed") from None
    if address is None:
        with (
            distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield from _run(distributed, client, tasks, jobs)
        return
    try:
        client = distributed.Client(address, timeout=_CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(f"backend dask: cannot connect to {address}: {error}") from None
    with client:
        if not client.nthreads():
            client.submit(asks_for_digest(), pure=False).result()  # a cluster that grows with its work gets its first worker here
        refuse_other_versions("dask", address, client.run(asks_for_digest()).values())
        yield from _run(distributed, client, tasks, sum(client.nthreads().values()) or jobs)


def _run(distributed: Any, client: Any, tasks: Iterable[Task], workers: int) -> Iterator[Outcome]:
    waiting = iter(tasks)
    in_flight: dict[Any, Task] = {}

    def submit() -> Any:
        task = next(waiting, None)
        if task is None:
            return None
        future = client.submit(evaluate, task, pure=False)
        in_flight[future] = task
        return future

    first = [future for future in (submit() for _ in range(_AHEAD * workers)) if future is not None]
    done = distributed.as_completed(first)
    for future in done:
        task = in_flight.pop(future)
        try:
            yield future.result()
        except distributed.KilledWorker:  # the scheduler has tried it on other workers
            yield Outcome(task.number, None, WORKER_DIED)
        future.release()
        following = submit()
        if following is not None:
            done.add(following)
