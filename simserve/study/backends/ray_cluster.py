"""A Ray cluster: a running one, or one of local processes that exists as long as the study."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

from simserve.errors import ConfigError
from simserve.study.backends import not_installed
from simserve.study.backends.remote import asks_for_digest, refuse_other_versions
from simserve.study.task import WORKER_DIED, Outcome, Task, evaluate

_AHEAD = 2  # tasks in flight for each worker: no worker waits for work, and memory stays small


def execute(tasks: Iterable[Task], jobs: int, address: str | None) -> Iterator[Outcome]:
    """Outcomes as they come. Raises ConfigError when Ray is not installed, does not answer, or its nodes have another simserve."""
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise not_installed("ray", "ray") from None
    started = not ray.is_initialized()
    if started:
        try:
            local = {"num_cpus": jobs, "include_dashboard": False} if address is None else {}
            ray.init(address=address or "local", log_to_driver=False, logging_level="error", **local)
        except Exception as error:
            raise ConfigError(_refused(address, error)) from None
    try:
        if address is not None:
            _check_nodes(ray, address)
        yield from _run(ray, tasks, jobs)
    finally:
        if started:
            ray.shutdown()


def _refused(address: str | None, error: Exception) -> str:
    text = f"backend ray: cannot connect to {address or 'a local cluster'}: {error}"
    if "auth" in f"{error} {error.__cause__}".lower():
        text += " (a cluster with token authentication needs RAY_AUTH_MODE=token and its token here, too)"
    return text


def _check_nodes(ray: Any, address: str) -> None:
    """Asks every node that can compute for its simserve. Raises ConfigError."""
    pinned: Any = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    ask = ray.remote(num_cpus=1)(asks_for_digest())
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    refuse_other_versions("ray", address, ray.get([ask.options(scheduling_strategy=pinned(node, soft=False)).remote() for node in nodes]))


def _run(ray: Any, tasks: Iterable[Task], jobs: int) -> Iterator[Outcome]:
    remote = ray.remote(num_cpus=1, max_retries=2)(evaluate)  # Ray starts a task again when its worker dies
    waiting = iter(tasks)
    in_flight: dict[Any, Task] = {}
    workers = max(jobs, int(ray.cluster_resources().get("CPU", jobs)))
    while True:
        while len(in_flight) < _AHEAD * workers and (task := next(waiting, None)) is not None:
            in_flight[remote.remote(task)] = task
        if not in_flight:
            return
        done, _ = ray.wait(list(in_flight), num_returns=1)
        for reference in done:
            task = in_flight.pop(reference)
            try:
                yield ray.get(reference)
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
                yield Outcome(task.number, None, WORKER_DIED)
