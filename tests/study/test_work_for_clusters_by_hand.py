"""Ray and Dask played by small objects: how many runs are under way at a time, what a dead worker leaves, who is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from simserve.errors import ConfigError
from simserve.study.backends import dask_cluster, ray_cluster, remote
from simserve.study.cache import code_digest
from simserve.study.task import WORKER_DIED, Outcome, Task

TASKS = [Task(number, None) for number in range(9)]  # type: ignore[arg-type]


def computed(task: Task) -> Outcome:
    return Outcome(task.number, {"x": float(task.number)}, None)


class CrashedError(Exception):
    """A worker has died."""


class Ray:
    """Computes a task when it is waited for, the first submitted first; notes how many were under way, and how it was started."""

    def __init__(self, cpus: int | None, dies: tuple[int, ...] = (), initialised: bool = False) -> None:
        self.cpus, self.dies, self.up = cpus, dies, initialised
        self.told: list[Any] = []
        self.most = 0
        self.digests: list[str] = []
        self.exceptions = SimpleNamespace(WorkerCrashedError=CrashedError, NodeDiedError=CrashedError, OutOfMemoryError=CrashedError)

    def is_initialized(self) -> bool:
        return self.up

    def init(self, address: str, **options: Any) -> None:
        self.told.append((address, options))
        if address == "ray://nowhere":
            raise ConnectionError("no answer")
        self.up = True

    def shutdown(self) -> None:
        self.told.append("shutdown")
        self.up = False

    def cluster_resources(self) -> dict[str, float]:
        return {} if self.cpus is None else {"CPU": float(self.cpus)}

    def nodes(self) -> list[dict[str, Any]]:
        alive = {"NodeID": "a", "Alive": True, "Resources": {"CPU": 4.0}}
        return [alive, {**alive, "NodeID": "dead", "Alive": False}, {**alive, "NodeID": "head", "Resources": {}}]

    def remote(self, **options: Any) -> Any:
        def made(function: Any) -> Any:
            return SimpleNamespace(
                remote=lambda *of: (function, of), options=lambda scheduling_strategy: SimpleNamespace(remote=lambda: scheduling_strategy)
            )

        return made

    def wait(self, references: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        self.most = max(self.most, len(references))
        return references[:num_returns], references[num_returns:]

    def get(self, reference: Any) -> Any:
        if isinstance(reference, list):
            self.told.append(("asked", reference))
            return self.digests
        function, (task,) = reference
        if task.number in self.dies:
            raise CrashedError
        return function(task)


@pytest.fixture
def with_ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(ray: Ray, jobs: int = 2, address: str | None = None, tasks: Any = TASKS) -> list[Outcome]:
        strategies = ModuleType("ray.util.scheduling_strategies")
        strategies.NodeAffinitySchedulingStrategy = lambda node, soft: (node, soft)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
        monkeypatch.setattr(ray_cluster, "evaluate", computed)
        return list(ray_cluster.execute(tasks, jobs, address))

    return run


@pytest.mark.parametrize(("cpus", "jobs", "most"), [(2, 2, 4), (3, 2, 6), (1, 2, 4), (None, 3, 6), (100, 2, 9)])
def test_ray_has_two_runs_for_each_worker(with_ray: Any, cpus: int | None, jobs: int, most: int) -> None:
    ray = Ray(cpus)
    assert with_ray(ray, jobs) == [computed(task) for task in TASKS] and ray.most == most
    assert with_ray(Ray(cpus), jobs, tasks=[]) == []


def test_a_dead_worker_costs_its_run(with_ray: Any) -> None:
    found = with_ray(Ray(2, dies=(1, 8)))
    assert [outcome.error for outcome in found] == [WORKER_DIED if number in (1, 8) else None for number in range(9)]
    assert [outcome.number for outcome in found] == list(range(9))


def test_a_local_ray_is_started_and_stopped_and_a_running_one_is_left_alone(with_ray: Any) -> None:
    local, running = Ray(2), Ray(2, initialised=True)
    with_ray(local, jobs=3)
    assert local.told == [
        ("local", {"log_to_driver": False, "logging_level": "error", "num_cpus": 3, "include_dashboard": False}),
        "shutdown",
    ]
    with_ray(running)
    assert running.told == [] and running.up


def test_the_nodes_of_a_ray_cluster_are_asked_for_their_simserve(with_ray: Any) -> None:
    good, bad = Ray(2), Ray(2)
    good.digests, bad.digests = [code_digest()], ["another"]
    assert len(with_ray(good, address="ray://there")) == 9
    assert good.told[0] == ("ray://there", {"log_to_driver": False, "logging_level": "error"})
    assert good.told[1] == ("asked", [("a", False)]), "each node that lives and computes"
    with pytest.raises(ConfigError, match="backend ray: a worker at ray://there cannot stand in"):
        with_ray(bad, address="ray://there")
    assert bad.told[-1] == "shutdown"


def test_a_ray_that_does_not_answer(with_ray: Any) -> None:
    ray = Ray(2)
    with pytest.raises(ConfigError, match=r"backend ray: cannot connect to ray://nowhere: no answer$"):
        with_ray(ray, address="ray://nowhere")
    assert not ray.up and "shutdown" not in ray.told
    denied = ray_cluster._refused("ray://x", RuntimeError("Authentication failed"))
    assert denied.endswith("(a cluster with token authentication needs RAY_AUTH_MODE=token and its token here, too)")
    chained = RuntimeError("no")
    chained.__cause__ = ValueError("unauthorized")
    assert "RAY_AUTH_MODE" in ray_cluster._refused(None, chained) and "a local cluster" in ray_cluster._refused(None, chained)


# ---- Dask ----


class KilledWorkerError(Exception):
    """A worker has died with its task several times."""


class Future:
    def __init__(self, client: Dask, function: Any, of: tuple[Any, ...]) -> None:
        self.client, self.function, self.of = client, function, of

    def result(self) -> Any:
        if self.of and self.of[0].number in self.client.dies:
            raise KilledWorkerError
        return self.function(*self.of)

    def release(self) -> None:
        self.client.under_way -= 1


class Dask:
    """A client whose futures are done in the order of their submission; notes how many were under way."""

    def __init__(self, threads: dict[str, int], dies: tuple[int, ...] = (), digest: str = "") -> None:
        self.threads, self.dies, self.digest = threads, dies, digest
        self.under_way = self.most = self.woken = 0
        self.closed = False

    def __enter__(self) -> Dask:
        return self

    def __exit__(self, *problem: object) -> None:
        self.closed = True

    def submit(self, function: Any, *of: Any, pure: bool) -> Future:
        assert not pure
        if not of:
            self.woken += 1
            self.threads = {"first": 1}
            return Future(self, function, of)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return Future(self, function, of)

    def nthreads(self) -> dict[str, int]:
        return self.threads

    def run(self, function: Any) -> dict[str, str]:
        return dict.fromkeys(self.threads, self.digest or function())


class AsCompleted:
    def __init__(self, first: list[Future]) -> None:
        self.left = list(first)

    def add(self, future: Future) -> None:
        self.left.append(future)

    def __iter__(self) -> Iterator[Future]:
        while self.left:
            yield self.left.pop(0)


@pytest.fixture
def with_dask(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(client: Dask, jobs: int = 2, address: str | None = None, tasks: Any = TASKS) -> list[Outcome]:
        made: list[Any] = []

        def cluster(**options: Any) -> Any:
            made.append(options)
            return client

        def connect(to: Any, timeout: int | None = None) -> Dask:
            if to == "tcp://nowhere":
                raise OSError("timed out")
            assert (timeout == 20) == (address is not None)
            return client

        module = SimpleNamespace(LocalCluster=cluster, Client=connect, as_completed=AsCompleted, KilledWorker=KilledWorkerError)
        monkeypatch.setitem(sys.modules, "distributed", module)
        monkeypatch.setattr(dask_cluster, "evaluate", computed)
        found = list(dask_cluster.execute(tasks, jobs, address))
        expected = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
        assert made == ([expected] if address is None else [])
        return found

    return run


@pytest.mark.parametrize(("jobs", "most"), [(1, 2), (2, 4), (4, 8), (9, 9)])
def test_dask_has_two_runs_for_each_worker(with_dask: Any, jobs: int, most: int) -> None:
    client = Dask({})
    assert with_dask(client, jobs) == [computed(task) for task in TASKS] and client.most == most and client.closed
    assert client.under_way == 0, "what is done is released"
    assert with_dask(Dask({}), jobs, tasks=[]) == []


def test_workers_of_a_running_dask_are_counted_and_asked(with_dask: Any) -> None:
    client = Dask({"a": 1, "b": 2})
    assert with_dask(client, 1, "tcp://there") == [computed(task) for task in TASKS] and client.most == 6 and client.woken == 0
    growing = Dask({})
    assert len(with_dask(growing, 5, "tcp://there")) == 9 and growing.woken == 1 and growing.most == 2
    with pytest.raises(ConfigError, match="backend dask: a worker at tcp://there cannot stand in"):
        with_dask(Dask({"a": 1}, digest="another"), 1, "tcp://there")
    with pytest.raises(ConfigError, match="backend dask: cannot connect to tcp://nowhere: timed out"):
        with_dask(Dask({}), 1, "tcp://nowhere")


def test_a_killed_worker_of_dask_costs_its_run(with_dask: Any) -> None:
    found = with_dask(Dask({}, dies=(0, 8)))
    assert [outcome.error for outcome in found] == [WORKER_DIED if number in (0, 8) else None for number in range(9)]


# ---- the same simserve everywhere ----


def test_a_worker_says_which_simserve_it_has_or_that_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = remote.asks_for_digest()
    assert ask() == code_digest()
    remote.refuse_other_versions("ray", None, [ask(), ask()])
    monkeypatch.setitem(sys.modules, "simserve.study.cache", None)
    answer = ask()
    assert answer.startswith("cannot import it: ")
    with pytest.raises(ConfigError, match="backend ray: a worker cannot stand in for this simserve: it cannot import it: "):
        remote.refuse_other_versions("ray", None, [answer])
    with pytest.raises(ConfigError, match=r"a worker at x cannot .*: it has another version of it, or other code; install the same one"):
        remote.refuse_other_versions("ray", "x", ["0" * 64])
