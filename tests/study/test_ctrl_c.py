"""Ctrl-C as a terminal sends it, to the whole process group: exit code 130, one line, what is done stays, --resume goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.study.conftest import RATE

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")

STUDIES = {
    "sweep": (["--over", f"{RATE}={','.join(str(1 + n / 2) for n in range(12))}"], "sweep.json"),
    "capacity": (["--when", "ttft.p90 <= 0.06", "--replicates", "2", "--tolerance", "1%"], "capacity.json"),
    "place": (["--devices", "2", "--when", "ttft.p90 <= 0.06"], "placement.json"),
    "plan": (["--devices", "6", "--when", "ttft.p90 <= 0.06", "--set", "plan.max_num_seqs=[4, 8, 16, 32]", "-q"], "plan.json"),
}


def _command(study: str, experiment: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "simserve", study, str(experiment), *STUDIES[study][0], "--out", str(out), *more]


def _rows(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/*.json")}


@pytest.mark.parametrize("study", STUDIES)
def test_what_is_done_stays_and_nothing_else_is_said(study: str, tiny_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    load = ("--set", "workload.count=400", "--jobs", "2")
    process = subprocess.Popen(
        _command(study, tiny_file, out, *load), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    end = time.monotonic() + 60
    while not _rows(out):
        assert process.poll() is None and time.monotonic() < end, "it ended, or hung, before it could be interrupted"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert process.returncode == 130 and printed == ""
    assert said.splitlines() == [f"interrupted: the finished runs are kept in {out}; the same command with --resume continues"]
    kept = _rows(out)
    assert kept and not (out / STUDIES[study][1]).exists()
    assert subprocess.run(_command(study, tiny_file, out, *load, "--resume", "-q"), capture_output=True, timeout=120).returncode == 0
    if sum(entry.is_dir() for entry in (out / "runs").iterdir()) > 1:
        pytest.skip("the package's source was edited while the test ran, so its rows were rightly ignored")
    assert (out / STUDIES[study][1]).is_file()
    assert {path: stamp for path, stamp in _rows(out).items() if path in kept} == kept, "a finished run was run again"


@pytest.mark.parametrize("after_s", [0.6, 1.1, 1.6])
def test_workers_that_are_just_starting_say_nothing(after_s: float, tiny_file: Path, tmp_path: Path) -> None:
    command = _command("sweep", tiny_file, tmp_path / "s", "--set", "workload.count=5000", "--jobs", "2")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(after_s)  # whatever it is at by then: importing, starting workers, running
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)  # the second before simserve itself has been loaded
    assert process.returncode != 130 or said.count("\n") == 1, said


def test_results_that_are_dropped_are_dropped_without_a_word() -> None:
    """As of an interrupt between the start of workers and the first look at what they returned."""
    code = (
        "import time\n"
        "from joblib import delayed\n"
        "from simserve.workers import uninterrupted_workers\n"
        "for ready_after_s in (0.0, 1.0):\n"
        "    found = uninterrupted_workers((delayed(abs)(n) for n in range(2)), n_jobs=2, return_as='generator_unordered')\n"
        "    time.sleep(ready_after_s)\n"
        "    del found\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_lock_left_behind_is_freed_without_a_word() -> None:
    """As of a process that ends between the removal of a lock and the note of it, which happens under load."""
    code = (
        "import os\n"
        "from joblib import delayed\n"
        "from joblib.externals.loky import get_reusable_executor\n"
        "from joblib.externals.loky.backend import resource_tracker\n"
        "from simserve.workers import uninterrupted_workers\n"
        "assert sorted(uninterrupted_workers((delayed(abs)(n) for n in (1, 2)), n_jobs=2, return_as='generator_unordered')) == [1, 2]\n"
        "assert 'PYTHONWARNINGS' not in os.environ\n"
        "get_reusable_executor().shutdown(wait=True)\n"
        "resource_tracker.register('/loky-none-such', 'semlock')\n"
        "os._exit(0)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
