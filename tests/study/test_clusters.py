"""Sweeps on a Ray or Dask cluster that is running already: the same rows, and workers with another simserve are refused."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.cli import main
from simserve.errors import ConfigError
from simserve.files.yaml_text import dump
from simserve.study.backends.remote import asks_for_digest, refuse_other_versions
from simserve.study.cache import code_digest
from tests.study.conftest import RATE

ROOT = Path(__file__).parents[2]
PACKAGES = {"ray": "ray", "dask": "distributed"}
START_S = 60.0


def test_a_worker_is_asked_in_a_way_that_needs_no_simserve() -> None:
    assert asks_for_digest()() == code_digest()
    refuse_other_versions("dask", None, [code_digest()])
    with pytest.raises(ConfigError, match="another version of it, or other code"):
        refuse_other_versions("dask", None, [code_digest(), "0" * 64])


@contextmanager
def _running(command: list[str], path: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that finds its modules in `path` first; it and what it started are gone afterwards."""
    environment = {**os.environ, "PYTHONPATH": str(path), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        # In a session of its own: when Ray ends it ends its process group, which would be that of the tests.
        process = subprocess.Popen(command, cwd=path, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while not ready():
        assert process.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.05)


@contextmanager
def _dask(path: Path, folder: Path) -> Iterator[str]:
    file, log = folder / "scheduler.json", folder / "scheduler.log"
    tool = [sys.executable, "-m", "distributed.cli."]
    both = ["--scheduler-file", str(file), "--no-dashboard"]
    scheduler = [*tool[:2], f"{tool[2]}dask_scheduler", *both, "--host", "127.0.0.1", "--port", "0"]
    worker = [*tool[:2], f"{tool[2]}dask_worker", *both, "--nworkers", "2", "--nthreads", "1", "--local-directory", str(folder / "d")]
    with _running(scheduler, path, log) as process:
        _until(file.exists, process, log)
        with _running(worker, path, folder / "worker.log"):
            yield str(json.loads(file.read_text())["address"])


@contextmanager
def _ray(path: Path, folder: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    log = folder / "head.log"
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--port", port, "--num-cpus", "2"]
    with _running([*command, "--include-dashboard", "false", "--disable-usage-stats"], path, log) as process:
        _until(lambda: "Ray runtime started" in log.read_text(), process, log)
        found = re.search(r"--address='([^']+)'", log.read_text())
        assert found is not None
        yield found[1]


CLUSTERS = {"dask": _dask, "ray": _ray}


@pytest.fixture(params=sorted(PACKAGES))
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed (extra '{name}')")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return name


@pytest.mark.nightly
def test_a_running_cluster_gives_the_same_bytes(backend: str, tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(dump(tiny))
    simserve.sweep(tmp_path / "tiny.yaml", {RATE: [4, 8, 16]}, jobs=1, out=tmp_path / "here")
    command = ["sweep", str(tmp_path / "tiny.yaml"), "--over", f"{RATE}=4,8,16", "--backend", backend, "--out", str(tmp_path / "there")]
    chosen = ["plan", str(tmp_path / "tiny.yaml"), "--devices", "2", "--when", "ttft.p90 <= 0.06", "--out"]
    assert main([*chosen, str(tmp_path / "planned here"), "--jobs", "1"]) in (0, 1)
    with CLUSTERS[backend](ROOT, tmp_path) as address:
        assert main([*command, "--address", address]) == 0
        assert main([*command, "--address", address, "--resume"]) == 0  # the cluster is still there after a sweep
        assert main([*chosen, str(tmp_path / "planned there"), "--backend", backend, "--address", address]) in (0, 1)
    assert (tmp_path / "planned here" / "plan.json").read_bytes() == (tmp_path / "planned there" / "plan.json").read_bytes()
    for name in ("sweep.parquet", "sweep.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@pytest.mark.nightly
@pytest.mark.parametrize(
    "backend", ["dask"], indirect=True
)  # Ray lends its workers the modules of the process that asks, where they see its disk
def test_a_cluster_without_this_simserve_is_refused(backend: str, tiny: dict[str, Any], tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    (nodes / "simserve").mkdir(parents=True)
    (nodes / "simserve" / "__init__.py").touch()
    with CLUSTERS[backend](nodes, tmp_path) as address, pytest.raises(ConfigError, match="cannot import it: No module named"):
        simserve.sweep(tiny, {RATE: [4.0, 8.0]}, backend=backend, address=address)
