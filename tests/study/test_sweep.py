"""Sweeps: one row a run, whatever happens to points, workers and the sweep itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import simserve
from simserve.cli import main
from simserve.errors import ConfigError, OutputError
from simserve.study.sweep.result import SweepResult
from tests.study.conftest import BUDGET, RATE


def test_rows_are_what_single_runs_say(tiny: dict[str, Any]) -> None:
    result = simserve.sweep(tiny, {RATE: [4.0, 40.0]}, replicates=2, jobs=1)
    assert list(result.frame["seed"]) == [1, 2, 1, 2] and list(result.frame[RATE]) == [4.0, 4.0, 40.0, 40.0]
    alone = simserve.run(tiny, **{RATE: 40.0, "seed": 2}).summary_dict()
    row = result.frame.iloc[3]
    assert row["ttft_p99_s"] == alone["latency"]["all"]["ttft_s"]["p99"]
    assert row["goodput_per_s"] == alone["slo"]["all"]["goodput_per_s"]


def test_equal_seeds_see_equal_traffic_at_every_point(tiny: dict[str, Any]) -> None:
    tiny["workload"]["lengths"]["output"] = {"kind": "lognormal", "median_tokens": 20, "sigma": 0.6, "max_tokens": 100}
    frame = simserve.sweep(tiny, {BUDGET: [128, 512]}, seeds=[5, 6], jobs=1).frame
    tokens = (frame["output_tokens_per_s"] * frame["simulated_s"]).round().to_numpy()
    assert tokens[0] == tokens[2] and tokens[1] == tokens[3] and tokens[0] != tokens[1]


def test_workers_change_nothing(tiny: dict[str, Any]) -> None:
    over = {RATE: [4.0, 8.0, 16.0], BUDGET: [256, 512]}
    one, two = (simserve.sweep(tiny, over, jobs=jobs).frame for jobs in (1, 2))
    assert one.equals(two)


def test_a_misspelt_key_fails_before_anything_runs(tiny: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'token_budget'"):
        simserve.sweep(tiny, {"cluster.instances.0.scheduler.token_budgt": [1, 2]}, out=tmp_path / "s")
    with pytest.raises(ConfigError, match="unknown key"):
        simserve.sweep(tiny, points=[{RATE: 1.0}, {"workload.arrivals.rate": 2.0}], jobs=1)


def test_an_impossible_combination_is_a_row(tiny: dict[str, Any]) -> None:
    policies = [{"policy": "sarathi", "token_budget": 512}, {"policy": "orca"}]
    points = [{"cluster.instances.0.scheduler": p, "cluster.instances.0.parallel": {"tp": tp}} for p in policies for tp in (1, 3)]
    frame = simserve.sweep(tiny, points=points, jobs=1).frame
    assert list(frame["status"]) == ["ok", "invalid", "ok", "invalid"]
    assert "tp 3 does not divide" in frame["error"][1] and math.isnan(frame["ttft_p99_s"][1])


def test_a_run_that_fails_is_a_row(tiny: dict[str, Any]) -> None:
    # A device of 80 GB does not hold 70 billion parameters: known only when the run is put together.
    frame = simserve.sweep(tiny, {"model": ["llama-2-7b", "llama-3.1-70b"]}, jobs=1).frame
    assert list(frame["status"]) == ["ok", "failed"]
    assert (frame["error"].isna()[0] and "ModelError" in str(frame["error"][1])) or "Error" in str(frame["error"][1])


def test_a_sweep_without_any_figures_ends_with_1(tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sweep", str(tiny_file), "--set", "model=llama-3.1-70b", "--replicates", "2", "--jobs", "1"]
    assert main([*arguments, "--out", str(tiny_file.with_name("o"))]) == 1
    assert "2 runs have no figures" in capsys.readouterr().err


def test_a_run_without_figures_is_said_even_when_asked_to_be_quiet(tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table does not show it, and the exit code is that of the runs that have figures."""
    out = str(tiny_file.with_name("quiet"))
    assert main(["sweep", str(tiny_file), "--over", "cluster.router.policy=random,nope", "--jobs", "1", "-q", "--out", out]) == 0
    assert capsys.readouterr().err.startswith(
        "! 1 run has no figures: cluster.router.policy='nope': cluster.router.policy: unknown routing policy"
    )


def test_equal_points_run_once(tiny: dict[str, Any]) -> None:
    result = simserve.sweep(tiny, {RATE: [4.0, 4.0, 8.0]}, jobs=1)
    assert len(result.frame) == 2 and "points left out because they equal another one: 1" in result.notes


def test_a_seed_that_changes_nothing_is_said(tiny: dict[str, Any]) -> None:
    tiny["workload"]["arrivals"]["kind"] = "constant"
    assert any("seed changes nothing" in note for note in simserve.sweep(tiny, replicates=2, jobs=1).notes)


def test_resume_runs_only_what_is_missing(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "s"
    first = simserve.sweep(tiny, {RATE: [4.0, 8.0]}, out=out, jobs=1)
    with pytest.raises(OutputError, match="--resume"):
        simserve.sweep(tiny, {RATE: [4.0, 8.0]}, out=out, jobs=1)
    calls = _counted(monkeypatch)
    again = simserve.sweep(tiny, {RATE: [4.0, 8.0]}, out=out, resume=True, jobs=1)
    assert calls == [] and again.frame.equals(first.frame)
    more = simserve.sweep(tiny, {RATE: [4.0, 8.0, 16.0]}, out=out, resume=True, jobs=1)
    assert calls == [16.0] and len(more.frame) == 3


def test_damaged_and_foreign_rows_are_run_again(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "s"
    first = simserve.sweep(tiny, {RATE: [4.0, 8.0]}, out=out, jobs=1)
    rows = sorted(out.glob("runs/*/*/*.json"))
    rows[0].write_text(rows[0].read_text()[:40])
    calls = _counted(monkeypatch)
    again = simserve.sweep(tiny, {RATE: [4.0, 8.0]}, out=out, resume=True, jobs=1)
    assert len(calls) == 1 and again.frame.equals(first.frame)
    folder = next(out.glob("runs/*"))
    folder.rename(folder.with_name("0.0.9-abcdef"))
    other = simserve.sweep(tiny, {RATE: [4.0, 8.0]}, out=out, resume=True, jobs=1)
    assert len(calls) == 3 and any("0.0.9-abcdef" in note for note in other.notes)


def test_a_place_that_holds_something_else_is_left_alone(tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(OutputError, match="not a sweep"):
        simserve.sweep(tiny, {RATE: [4.0]}, out=tmp_path, resume=True)


def test_the_result_reads_back(tiny: dict[str, Any], tmp_path: Path) -> None:
    over = {RATE: [4.0, 8.0], "cluster.instances.0.scheduler": [{"policy": "orca"}, {"policy": "sarathi"}]}
    written = simserve.sweep(tiny, over, out=tmp_path / "s", jobs=1)
    read = SweepResult.read(tmp_path / "s")
    assert read.frame.equals(written.frame) and read.keys == written.keys
    assert "4 runs" in repr(read) and "orca" in read._repr_html_()
    ax = read.plot.lines("ttft_p99_s")
    assert len(ax.get_lines()) == 2 and "s" in ax.get_ylabel()
    with pytest.raises(ConfigError, match="did you mean 'ttft_p99_s'"):
        read.plot.frontier(y="ttft_p99")


def test_a_sweep_file_and_the_command(tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tiny_file.with_name("rates.yaml")
    sweep.write_text(f"experiment: tiny.yaml\nover:\n  {RATE}: [4, 8]\nreplicates: 2\n")
    out = tiny_file.with_name("out")
    assert main(["sweep", str(sweep), "--out", str(out), "--jobs", "1"]) == 0
    assert json.loads((out / "sweep.json").read_text())["status"] == {"ok": 4}
    assert "TTFT" in capsys.readouterr().out
    assert main(["sweep", str(sweep), "--out", str(out), "--jobs", "1"]) == 2
    sweep.write_text(f"experiment: tiny.yaml\nover:\n  {RATE}: [4, 8]\nreplicate: 2\n")
    assert main(["sweep", str(sweep), "--out", str(out)]) == 2
    assert "rates.yaml:4:1: replicate: unknown key; did you mean 'replicates'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to sweep"),
        (["--over", f"{RATE}="], "no values"),
        (["--over", "seed=1,2"], "--seeds"),
        (["--over", f"{RATE}={{low: 1, high: 2, steps: 1000000000}}"], "1,000,000,000 points"),
        (["--over", f"{RATE}=1,2", "--seeds", "1,1"], "given twice"),
        (["--over", f"{RATE}=1,2", "--seeds", "1;2"], "whole numbers"),
        (["--over", f"{RATE}=1,2", "--backend", "slurm"], "unknown backend 'slurm'"),
        (["--over", f"{RATE}=1,2", "--jobs", "0"], "at least 1"),
        (["--over", f"{RATE}=1,2", "--method", "random"], "needs 'sample'"),
    ],
)
def test_bad_input_is_one_message(tiny_file: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(tiny_file), *arguments, "--out", str(tiny_file.with_name("o"))]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The rates of the experiments that are really run from now on."""
    import simserve.simulation

    calls: list[float] = []
    run = simserve.simulation.simulated

    def counting(experiment: Any, **options: Any) -> Any:
        calls.append(experiment.spec.workload.arrivals.rate_per_s)
        return run(experiment, **options)

    monkeypatch.setattr(simserve.simulation, "simulated", counting)
    return calls
