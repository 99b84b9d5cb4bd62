"""Killed sweeps and killed workers: what was finished stays, what was lost is run again, nothing is half there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.study.backends import execute
from simserve.study.sweep.result import SweepResult
from simserve.study.task import WORKER_DIED, Task
from tests.study.conftest import RATE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find the workers")

POINTS = 16


def _start(experiment: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    rates = ",".join(f"{1 + number / 2}" for number in range(POINTS))
    command = [sys.executable, "-m", "simserve", "sweep", str(experiment), "--over", f"{RATE}={rates}", "--set", "workload.count=400"]
    command += ["--out", str(out), *(more or ("--jobs", "2"))]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _rows(out: Path) -> list[Path]:
    return sorted(out.glob("runs/*/*/*.json"))


def _wait_for_rows(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    end = time.monotonic() + 60
    while len(_rows(out)) < count:
        assert process.poll() is None and time.monotonic() < end, "the sweep ended, or hung, before it could be interrupted"
        time.sleep(0.01)


def _workers(pid: int) -> list[int]:
    """The worker processes of a sweep."""
    found = []
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        for number in child.read_text().split():
            command = Path(f"/proc/{number}/cmdline").read_bytes()
            if b"popen_loky" in command:
                found.append(int(number))
    return found


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_a_killed_sweep_continues_where_it_was(tiny_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    process = _start(tiny_file, out)
    _wait_for_rows(process, out, 5)
    workers = _workers(process.pid)
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: (path.stat().st_mtime_ns, json.loads(path.read_text())) for path in _rows(out)}
    assert 5 <= len(kept) < POINTS and not (out / "sweep.json").exists()
    end = time.monotonic() + 20
    while not all(_gone(worker) for worker in workers):
        assert time.monotonic() < end, "workers of a killed sweep stay behind"
        time.sleep(0.05)
    assert _start(tiny_file, out, "--jobs", "1", "--resume").wait() == 0
    if sum(entry.is_dir() for entry in (out / "runs").iterdir()) > 1:
        pytest.skip("the package's source was edited while the test ran, so its rows were rightly ignored")
    assert len(_rows(out)) == POINTS
    assert all(path.stat().st_mtime_ns == stamp for path, (stamp, _) in kept.items()), "a finished run was run again"
    frame = SweepResult.read(out).frame
    assert len(frame) == POINTS and set(frame["status"]) == {"ok"}


def test_killed_workers_cost_nothing_but_their_time(tiny_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    process = _start(tiny_file, out)
    _wait_for_rows(process, out, 3)
    os.kill(_workers(process.pid)[0], signal.SIGKILL)
    assert process.wait() == 0
    content = json.loads((out / "sweep.json").read_text())
    assert content["status"] == {"ok": POINTS}


class _Bomb:
    """An experiment that kills the process that unpacks it."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_a_run_that_kills_its_worker_is_a_row_and_its_neighbours_are_not(tiny: dict[str, Any]) -> None:
    good = simserve.load(tiny)
    tasks = [Task(number, good if number != 2 else _Bomb()) for number in range(6)]  # type: ignore[arg-type]
    outcomes = {outcome.number: outcome for outcome in execute(tasks, len(tasks), jobs=2)}
    assert sorted(outcomes) == list(range(6))
    assert [number for number, outcome in outcomes.items() if outcome.error is not None] == [2]
    assert outcomes[2].error == WORKER_DIED
