"""`simserve run` from the file to the result, and everything that may stop it."""

from __future__ import annotations

import errno
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
import simserve.engine
from simserve.cli import main
from simserve.cli.signals import TerminatedError

TEXT = """\
name: tiny
model: llama-2-7b
hardware: a100-sxm-80gb
engine: vllm-v1
workload:
  arrivals: {kind: poisson, rate_per_s: 4.0}
  lengths: {prompt: {kind: fixed, tokens: 200}, output: {kind: fixed, tokens: 20}}
  count: 30
slo: {ttft_s: 2.0}
seed: 1
"""
LIGHT = ["--no-plots", "--no-report"]


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(TEXT)
    return path


def nothing_written(folder: Path) -> bool:
    return sorted(path.name for path in folder.rglob("*") if path.name != "out") == ["tiny.yaml"]


def test_a_run_prints_a_table_and_leaves_a_result(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(experiment), *LIGHT]) == 0
    captured = capsys.readouterr()
    assert "TTFT" in captured.out
    assert "written to out/tiny" in captured.err
    assert {path.name for path in Path("out/tiny").iterdir()} == {"summary.json", "requests.parquet", "experiment.resolved.yaml"}
    assert [path.name for path in Path("out").iterdir()] == ["tiny"]


def test_the_full_output(experiment: Path) -> None:
    assert main(["run", str(experiment), "--timeline", "--steps", "--quiet", "--check"]) == 0
    names = {path.name for path in Path("out/tiny").iterdir()}
    assert {"report.html", "plots", "timeline.json", "steps.parquet"} <= names
    assert any(Path("out/tiny/plots").glob("*.png"))


def test_json_is_pure_and_complete(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(experiment), "--json", *LIGHT]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert summary["requests"]["completed"] == 30
    assert summary == json.loads(Path("out/tiny/summary.json").read_text())


def test_quiet_means_no_notes(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(experiment), "--quiet", *LIGHT]) == 0
    assert capsys.readouterr().err == ""


def test_the_resolved_experiment_runs_to_the_same_bytes_from_elsewhere(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["run", str(experiment), "--quiet", *LIGHT]) == 0
    first = tmp_path / "out" / "tiny"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["run", str(first / "experiment.resolved.yaml"), "--quiet", *LIGHT]) == 0
    for name in ("requests.parquet", "summary.json", "experiment.resolved.yaml"):
        assert (tmp_path / "elsewhere" / "out" / "tiny" / name).read_bytes() == (first / name).read_bytes()


def test_set_changes_the_run(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(experiment), "--json", "--set", "workload.count=5", "--set", "seed=2", *LIGHT]) == 0
    assert json.loads(capsys.readouterr().out)["requests"]["total"] == 5


def test_an_existing_result_is_kept_unless_forced(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(experiment), *LIGHT]) == 0
    before = Path("out/tiny/summary.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["run", str(experiment), *LIGHT]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: out/tiny: exists; choose another place with --out, or replace it with --force\n"
    assert captured.out == ""
    assert Path("out/tiny/summary.json").stat().st_mtime_ns == before
    assert main(["run", str(experiment), "--force", *LIGHT]) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("model=lama-2-7b", "did you mean 'llama-2-7b'?"),
        ("hardware=a100", "a100-sxm-80gb"),
        ("workload={trace: {format: burstgpt, path: absent.csv}}", "absent.csv"),
        ("model=llama-2-70b", "cluster.instances.0: model 'llama-2-70b' does not fit a100-sxm-80gb with tp 1"),
        ("cluster={instances: [{parallel: {tp: 3}}]}", "tp 3"),
        ("workload.lengths.prompt.kind=fixd", "fixed"),
        ("workload.count=-1", "workload.count: found -1"),
    ],
)
def test_bad_input_is_one_message_and_no_output(experiment: Path, change: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(experiment), "--set", change, *LIGHT]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert nothing_written(experiment.parent)


def test_a_full_disk_leaves_nothing(experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from simserve.report import files

    def full(path: Path, content: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_json", full)
    assert main(["run", str(experiment), *LIGHT]) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert nothing_written(experiment.parent)


def test_a_write_error_names_the_place_the_user_asked_for(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(part: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(part))

    monkeypatch.setattr(os, "replace", full)
    assert main(["run", str(experiment), *LIGHT]) == 2
    captured = capsys.readouterr().err
    assert "out/tiny/" in captured
    assert "partial" not in captured
    assert "No space left" in captured
    assert nothing_written(experiment.parent)


def test_ctrl_c_leaves_nothing(experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simserve.engine, "simulate", interrupted)
    assert main(["run", str(experiment), *LIGHT]) == 130
    assert capsys.readouterr().err == "interrupted: no result was written\n"
    assert nothing_written(experiment.parent)


@pytest.mark.parametrize(
    ("problem", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted: the result is in {}\n"),
        (TerminatedError(143), 143, "terminated: the result is in {}\n"),
        (OSError(errno.ENOSPC, "full"), 2, "error: the disk is full: cannot write; the result is in {}\n"),
        (BrokenPipeError(), 141, ""),
    ],
)
@pytest.mark.parametrize("variants", [False, True])
def test_what_comes_when_the_result_is_there_says_so(
    variants: bool,
    problem: BaseException,
    code: int,
    said: str,
    experiment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is printed after it was written: "no result was written" would have it computed again."""

    def ended(*_: object, **__: object) -> None:
        raise problem

    monkeypatch.setattr("simserve.report.terminal.summary_table", ended)
    monkeypatch.setattr("simserve.cli.claims.show_claims", ended)
    if variants:
        experiment.write_text(experiment.read_text() + "variants: {one: {seed: 1}}\nclaims: [{figure: ttft.p50, of: [one], at_most: 9}]\n")
    out = experiment.parent / "there"
    assert main(["run", str(experiment), "--out", str(out), "--quiet", *LIGHT]) == code
    assert capsys.readouterr().err == said.format(out)
    assert (out / "summary.json").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_to_a_real_run_leave_nothing(experiment: Path, number: signal.Signals, code: int) -> None:
    command = [
        sys.executable,
        "-m",
        "simserve",
        "run",
        str(experiment),
        "--set",
        "workload.count=300_000",
        "--set",
        "fast_forward=false",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(simserve.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(Path("out").glob(".tiny.partial-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.3)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert out == ""
    assert nothing_written(experiment.parent)


def test_results_are_compared_side_by_side(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(experiment), "--out", "out/a", *LIGHT]) == 0
    assert main(["run", str(experiment), "--out", "out/b", "--set", "seed=2", *LIGHT]) == 0
    capsys.readouterr()
    assert main(["compare", "out/a", "out/b"]) == 0
    assert "TTFT" in capsys.readouterr().out
    assert main(["compare", "out/a", "out/absent"]) == 2


def test_python_gives_the_same_result(experiment: Path) -> None:
    loaded = simserve.load(experiment, **{"workload.count": 5})
    result = simserve.run(loaded)
    assert len(result.requests) == 5
    assert simserve.run(experiment, seed=1).summary_dict()["requests"]["completed"] == 30
    with pytest.raises(simserve.SimserveError, match="did you mean 'seed'"):
        simserve.load(experiment, sede=1)
    calls: list[tuple[int, int, float]] = []
    simserve.run(loaded, progress=lambda *state: calls.append(state))
    assert calls[-1][:2] == (5, 5)


@pytest.mark.parametrize("command", [["run", "tiny.yaml", "--quiet", *LIGHT], ["models"]])
def test_a_reader_that_has_gone_has_one_exit_code(experiment: Path, command: list[str]) -> None:
    """Rich ends with 1 where stdout is not read any more, as if something had failed."""
    environment = os.environ | {"PYTHONPATH": str(Path(simserve.__file__).parents[1])}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "simserve", *command], env=environment, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
