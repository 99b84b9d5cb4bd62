"""Intervals: the band of a headline comes from the spreads of operators, and of whole steps where they are given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import simserve
from simserve.cli import main
from simserve.config.assemble import assemble
from simserve.contracts import Step
from simserve.errors import ConfigError
from simserve.report.rows import interval_rows
from simserve.study import intervals
from simserve.study.intervals import STEPS, bands, draw, operator_spreads

SPEC = {
    "name": "banded",
    "model": "llama-3.1-8b",
    "hardware": "a100-sxm-80gb",
    "engine": "vllm-v1",
    "cluster": {"instances": [{"max_model_len": 4096}]},
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 5.0},
        "lengths": {"prompt": {"kind": "fixed", "tokens": 400}, "output": {"kind": "fixed", "tokens": 30}},
        "count": 40,
    },
    "slo": {"ttft_s": 0.1},
    "seed": 3,
}
EXPERIMENT = simserve.load(SPEC)
SPREADS = operator_spreads(assemble(EXPERIMENT))
CENTRAL = simserve.run(EXPERIMENT).summary_dict()


def of(spread: float) -> dict[str, float]:
    return dict.fromkeys(SPREADS, spread)


def widths(found: dict[str, object]) -> dict[str, float]:
    latency = found["latency"]["all"]  # type: ignore[index]
    return {f"{m} {s}": latency[m][s][1] - latency[m][s][0] for m in latency for s in latency[m]}


def test_certain_operators_leave_no_band() -> None:
    found = bands(EXPERIMENT, 8, spreads=of(0.0))
    for metric, stats in found["latency"]["all"].items():
        for stat, (low, high) in stats.items():
            assert low == high == CENTRAL["latency"]["all"][metric][stat], (metric, stat)
    for key, (low, high) in found["throughput"].items():
        assert low == high == CENTRAL["throughput"][key]


def test_less_certain_operators_widen_the_band_around_the_central_run() -> None:
    narrow, wide = (bands(EXPERIMENT, 8, spreads=of(spread)) for spread in (0.03, 0.15))
    for name, width in widths(narrow).items():
        assert 0.0 < width < widths(wide)[name], name
    for metric, stats in wide["latency"]["all"].items():
        for stat, (low, high) in stats.items():
            assert low <= CENTRAL["latency"]["all"][metric][stat] <= high, (metric, stat)
    assert wide["slo"]["all"]["attainment"][0] <= CENTRAL["slo"]["all"]["attainment"] <= wide["slo"]["all"]["attainment"][1]


def test_the_same_seed_gives_the_same_band_in_one_process_and_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    once = bands(EXPERIMENT, 8)
    monkeypatch.setattr(intervals, "_PARALLEL_FROM_S", 0.0)
    seen = []
    assert bands(EXPERIMENT, 8, seen.append) == once
    assert [step.done for step in seen] == list(range(9))
    assert bands(simserve.load({**SPEC, "seed": 4}), 8) != once


def test_draws_are_centred_lognormal_and_independent_of_each_other() -> None:
    found = draw({"a": 0.1, "b": 0.1, "c": 0.0}, 20, seed=0)
    for even, odd in zip(found[::2], found[1::2], strict=True):
        assert even["a"] * odd["a"] == pytest.approx(1.0)
        assert even["a"] != even["b"] and even["c"] == odd["c"] == 1.0
    assert [one["a"] for one in draw({"a": 0.1, "z": 3.0}, 20, seed=0)] == [one["a"] for one in found], "others do not disturb a draw"
    many = sorted(one["a"] for one in draw({"a": 0.1}, 4000, seed=1))
    assert many[200] == pytest.approx(0.848, rel=0.01) and many[3800] == pytest.approx(1.179, rel=0.01), "exp of -+1.645 x 0.1"


def test_a_spread_of_whole_steps_widens_the_band_of_all_latencies_alike() -> None:
    """In a closed loop all times are the steps': draws of 10 % make bands of exp(-0.128) to exp(0.128) around the run."""
    experiment = simserve.load(
        {**SPEC, "workload": {"closed_loop": {"concurrency": 4}, "lengths": SPEC["workload"]["lengths"], "count": 40}}
    )  # type: ignore[index]
    central = simserve.run(experiment, intervals=0).summary_dict()["latency"]["all"]["tpot_s"]["mean"]
    low, high = bands(experiment, 40, spreads=of(0.0), steps=0.1)["latency"]["all"]["tpot_s"]["mean"]
    assert low / central == pytest.approx(0.88, abs=0.04) and high / central == pytest.approx(1.137, abs=0.04)


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 8"):
        simserve.run(EXPERIMENT, intervals=3)
    with pytest.raises(ConfigError, match="at least 8"):
        simserve.load({**SPEC, "intervals": 3})


def test_bands_are_in_the_summary_the_table_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("banded.yaml").write_text(json.dumps({**SPEC, "intervals": 8}))
    assert main(["run", "banded.yaml", "--no-plots"]) == 0
    assert "10 % to 90 % of 8 runs" in capsys.readouterr().out
    summary = json.loads(Path("out/banded/summary.json").read_text())
    low, high = summary["intervals"]["latency"]["all"]["tpot_s"]["mean"]
    assert low < summary["latency"]["all"]["tpot_s"]["mean"] < high
    assert summary["intervals"]["spread_log"] == SPREADS | {STEPS: summary["uncertainty"]["steps"]}
    assert summary["experiment"]["intervals"] == 8
    page = Path("out/banded/report.html").read_text()
    for label, cells in interval_rows(summary):
        assert all(cell in page for cell in cells), label
    assert main(["run", "banded.yaml", "--set", "intervals=0", "--out", "out/plain", "--no-plots", "--no-report", "--quiet"]) == 0
    assert json.loads(Path("out/plain/summary.json").read_text())["intervals"] is None
    assert "band" not in capsys.readouterr().out.replace("banded", "")


def test_a_draft_is_as_uncertain_as_its_operators() -> None:
    """The cost of an instance that drafts is a wrapper with a cost model of its own: both are scaled."""
    changes = {"workload.count": 30, "workload.closed_loop.concurrency": 4}
    experiment = simserve.load("speculation_eagle3", **changes)
    (spec,) = assemble(experiment).instances
    step = Step(4, 4 * 600, 600, (), 12, 3)
    slower = spec.cost.scaled(dict.fromkeys(spec.cost.spreads(), 1.2))
    assert slower.breakdown(step)["draft"] > 1.05 * spec.cost.breakdown(step)["draft"]
    assert slower.step_time(step) > 1.1 * spec.cost.step_time(step)
    found = bands(experiment, 8)
    low, high = found["latency"]["all"]["tpot_s"]["mean"]
    assert low < high
