"""Broken inputs end well or with one clear message: never a traceback, a hang, or "a bug in simserve"."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.cli import main
from tests.config import mutants


@pytest.mark.parametrize("first", range(0, 150, 30))
def test_a_broken_input_is_one_clear_message(first: int) -> None:
    bad = mutants.campaign(range(first, first + 30))
    assert {seed: (one.what, outcome.faults(), outcome.said[-500:]) for seed, (one, outcome) in bad.items()} == {}


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(150, 3150, 100))
def test_three_thousand_broken_inputs(first: int) -> None:
    test_broken = mutants.campaign(range(first, first + 100))
    assert {seed: (one.what, outcome.faults(), outcome.said[-500:]) for seed, (one, outcome) in test_broken.items()} == {}


@pytest.mark.parametrize("name", sorted(mutants.BASES))
def test_the_unbroken_inputs_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file, text in ({"e.yaml": mutants.BASES[name]} | (mutants.own_files() if name == "own" else {})).items():
        (tmp_path / file).write_text(text)
    monkeypatch.chdir(tmp_path)
    change = ["--set", "model=opt-13b"] if name == "probes" else []  # what its coefficients know
    assert main(["run", "e.yaml", "-q", "--no-plots", "--no-report", *change]) == 0


def test_a_seed_is_always_the_same_case() -> None:
    assert mutants.case(7) == mutants.case(7)
    assert len({mutants.case(seed).what for seed in range(200)}) > 90


def test_bad_endings_are_seen() -> None:
    bad = (
        mutants.Outcome(1, "error: a bug in simserve: X", 0.1),
        mutants.Outcome(2, "", 0.1),
        mutants.Outcome(2, "error: " + "x" * 5000, 0.1),
        mutants.Outcome(2, "error: Input should be a valid integer", 0.1),
        mutants.Outcome(3, "error: I3", 0.1),
    )
    assert all(outcome.faults() for outcome in bad)
    assert not mutants.Outcome(2, "error: e.yaml:1:1: model: unknown model 'x'", 0.1).faults()
