"""Ctrl-C and SIGTERM at any moment of a process: one line, exit code 130 or 143, nothing written, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

import simserve
from simserve.cli import main
from simserve.cli.signals import TerminatedError

SAID = {
    signal.SIGINT: (130, "interrupted: no result was written\n"),
    signal.SIGTERM: (143, "terminated: no result was written\n"),
}
COMMAND = [sys.executable, "-m", "simserve", "run", "quickstart", "--quiet", "--out", "out"]


def run(folder: Path, after_s: float | None, number: signal.Signals) -> tuple[int, str, float]:
    """(exit code, stderr, seconds) of a run that gets a signal so long after its start."""
    environment = os.environ | {"PYTHONPATH": str(Path(simserve.__file__).parents[1])}
    begin = time.monotonic()
    process = subprocess.Popen(COMMAND, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if after_s is not None:
        time.sleep(after_s)
        process.send_signal(number)
    err = process.communicate(timeout=120)[1]
    return process.returncode, err, time.monotonic() - begin


def was_not_ours_yet(code: int, err: str, number: int) -> bool:
    """Whether Python itself was still starting: the shell says 130 or 143 as well."""
    frames = [line for line in err.splitlines() if line.lstrip().startswith("File ")]
    return code == -number and not any("simserve/cli" in line for line in frames)


def wrong(folder: Path, number: signal.Signals, moments: int, seed: int) -> list[tuple[float, int, str]]:
    """Of so many random moments between start and end, those with another answer: seconds, exit code, stderr."""
    dice, found = Random(seed), []
    _, _, whole_s = run(folder, None, number)
    (folder / "out").rename(folder / "whole")
    for moment in range(moments):
        place = folder / f"{number.name}-{moment}"
        place.mkdir()
        after_s = dice.uniform(0.0, whole_s)
        code, err, _ = run(place, after_s, number)
        complete = (place / "out" / "summary.json").is_file()
        told = (code, err) == SAID[number] and not list(place.iterdir())
        said = f"{SAID[number][1].partition(':')[0]}: the result is in out\n"
        late = complete and (code, err) in ((0, ""), (-number, ""), (SAID[number][0], said))
        if not (told or late or was_not_ours_yet(code, err, number)):
            found.append((after_s, code, err))
    return found


@pytest.mark.parametrize("number", SAID)
def test_a_signal_at_some_moments(number: signal.Signals, tmp_path: Path) -> None:
    assert wrong(tmp_path, number, moments=5, seed=int(number)) == []


@pytest.mark.nightly
@pytest.mark.parametrize("number", SAID)
def test_a_signal_at_a_hundred_random_moments(number: signal.Signals, tmp_path: Path) -> None:
    assert wrong(tmp_path, number, moments=100, seed=int(time.time())) == []


@pytest.mark.parametrize("number", SAID)
def test_what_a_library_makes_of_it_is_no_bug(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compiled code that calls Python may answer with an error of its own (pydantic: SchemaError)."""

    def command() -> None:
        try:
            signal.raise_signal(number)
        except BaseException as problem:
            raise RuntimeError("a schema is wrong") from problem

    monkeypatch.setattr("simserve.cli.root.command", command)
    assert (main([]), capsys.readouterr().err) == SAID[number]


@pytest.mark.parametrize("number", SAID)
def test_one_that_comes_in_a_destructor_is_not_forgotten(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def command() -> None:
        Gone()
        time.sleep(10)
        raise AssertionError("it was forgotten")

    monkeypatch.setattr("simserve.cli.root.command", command)
    assert (main([]), capsys.readouterr().err) == SAID[number]


def test_an_error_without_a_signal_is_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise RuntimeError("a schema is wrong")

    monkeypatch.setattr("simserve.cli.root.command", command)
    assert main([]) == 1
    assert "a bug in simserve: RuntimeError: a schema is wrong" in capsys.readouterr().err


def test_the_caller_s_own_handlers_come_back() -> None:
    def state() -> list[object]:
        return [sys.unraisablehook, *(signal.getsignal(number) for number in (*SAID, signal.SIGALRM))]

    before = state()
    assert main(["version"]) == 0
    assert state() == before


def test_sigterm_unwinds(monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []

    def command() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except TerminatedError:
            removed.append("what was unfinished")
            raise

    monkeypatch.setattr("simserve.cli.root.command", command)
    assert main([]) == 143 and removed
