"""Intervals over seeds and paired comparisons: textbook numbers, and what may be concluded from them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simserve
from simserve.cli import main
from simserve.errors import ConfigError
from simserve.study.paired import compare
from simserve.study.predicate import parse_quantity
from tests.study.conftest import BUDGET, RATE

TTFT, GOODPUT = parse_quantity("ttft.p99"), parse_quantity("goodput")


def test_the_interval_is_students_t_of_the_differences() -> None:
    """Differences 1, 2, 3: mean 2, standard deviation 1, t(0.975, 2 degrees) = 4.3027."""
    row = compare(TTFT, [10.0, 20.0, 30.0], [11.0, 22.0, 33.0])
    half = 4.302652729911275 / math.sqrt(3)
    assert (row.first, row.second, row.difference) == (20.0, 22.0, 2.0)
    assert row.low == pytest.approx(2 - half) and row.high == pytest.approx(2 + half)
    assert row.verdict == "not told apart" and row.better == ""  # -0.48 to 4.48


@pytest.mark.parametrize(
    ("first", "second", "verdict", "better"),
    [
        ([10.0, 20.0, 30.0], [12.0, 22.0, 32.0], "higher", "first"),  # apart by chance three times as far as the difference, and yet sure
        ([12.0, 22.0, 32.0], [10.0, 20.0, 30.0], "lower", "second"),
        ([1.0, 2.0], [1.0, 2.0], "equal", ""),
        ([1.0], [2.0], "one seed", ""),
        ([1.0, None], [2.0, 3.0], "not defined", ""),
        ([None, None], [None, None], "not defined", ""),
    ],
)
def test_verdicts(first: list[float | None], second: list[float | None], verdict: str, better: str) -> None:
    row = compare(TTFT, first, second)
    assert (row.verdict, row.better) == (verdict, better)
    assert compare(GOODPUT, first, second).better == {"first": "second", "second": "first", "": ""}[better]


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """2,000 comparisons of 5 seeds whose true difference is 0.1: 95 % of the intervals hold it (binomial error 0.5 %)."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        shared = rng.normal(1.0, 0.5, 5)
        row = compare(TTFT, (shared + rng.normal(0, 0.1, 5)).tolist(), (shared + 0.1 + rng.normal(0, 0.1, 5)).tolist())
        assert row.low is not None and row.high is not None
        hits += row.low <= 0.1 <= row.high
    assert 0.935 <= hits / 2000 <= 0.965


def test_a_smaller_budget_is_slower_to_the_first_token_and_seeds_pair(tiny: dict[str, Any]) -> None:
    small = simserve.load(tiny, **{BUDGET: 64})
    found = simserve.paired(tiny, small, ["ttft.p99", "completed"], replicates=3, names=("512", "64"), jobs=1)
    ttft, completed = found.rows
    assert (ttft.verdict, ttft.better, completed.verdict) == ("higher", "first", "equal") and found.seeds == (1, 2, 3)
    expected = [simserve.run(tiny, seed=seed).summary_dict()["latency"]["all"]["ttft_s"]["p99"] for seed in found.seeds]
    assert ttft.first == pytest.approx(sum(expected) / 3, rel=1e-12)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["rows"][0]["column"] == "ttft_p99_s"
    assert list(found.frame["verdict"]) == ["higher", "equal"] and "ttft.p99" in found._repr_html_()


def test_what_a_comparison_says_of_itself(tiny: dict[str, Any]) -> None:
    other = simserve.load(tiny, **{RATE: 8.0, "name": "other"})
    assert any("workloads differ" in note for note in simserve.paired(tiny, other, ["ttft.p50"], replicates=2, jobs=1).notes)
    tiny["workload"] = {
        "closed_loop": {"concurrency": 2},
        "count": 8,
        "lengths": {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 5}},
    }
    same = simserve.paired(tiny, tiny, ["ttft.p50"], replicates=2, jobs=1)
    assert any("seed changes nothing" in note for note in same.notes) and same.names == ("tiny (first)", "tiny (second)")


def test_a_sweep_gives_intervals_and_pairs_by_name(tiny: dict[str, Any]) -> None:
    points = {"small": {BUDGET: 64}, "large": {BUDGET: 2048}}
    result = simserve.sweep(tiny, points=points, replicates=3, jobs=1)
    table = result.intervals("ttft.p99")
    assert table["label"].tolist() == ["small", "large"] and table["runs"].tolist() == [3, 3]
    values = result.frame[result.frame["label"] == "small"]["ttft_p99_s"].to_numpy()
    half = 4.302652729911275 * values.std(ddof=1) / math.sqrt(3)
    assert table.loc[0, "mean"] == pytest.approx(values.mean()) and table.loc[0, "high"] - values.mean() == pytest.approx(half)
    assert result.paired("ttft.p99", "small", "large") == result.paired("ttft.p99", 0, 1)
    assert result.paired("ttft.p99", "small", "large").verdict == "lower"
    single = simserve.sweep(tiny, points=points, jobs=1)
    assert single.intervals("ttft_p99_s")[["low", "high"]].isna().all().all()
    for wrong in (lambda: result.paired("ttft.p99", "smal", 0), lambda: result.paired("ttft.p99", 0, 7), lambda: result.intervals("ttf")):
        with pytest.raises(ConfigError):
            wrong()


def test_the_command(tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["paired", str(tiny_file), "--set-second", f"{BUDGET}=64", "--replicates", "3", "--jobs", "1"]
    assert main(options) == 0
    printed = capsys.readouterr()
    assert "3 paired seeds, 95 % intervals" in printed.out and "higher, first is better" in printed.out and printed.err == ""
    assert main([*options, "--json", "--metrics", "ttft.p95", "--confidence", "90%"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["confidence"] == 0.9 and [row["figure"] for row in content["rows"]] == ["ttft.p95"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "second experiment"),
        (["--set-second", f"{BUDGET}=64", "--metrics", "tttf.p99"], "did you mean 'ttft.p99'"),
        (["--set-second", f"{BUDGET}=64", "--confidence", "1"], "confidence"),
        (["--set-second", f"{BUDGET}=64", "--seeds", "1,1"], "given twice"),
        (["--set-second", "cluster.instances.0.scheduler.token_budgets=64"], "token_budget"),
        (["nothing_of_this_name"], "nothing_of_this_name"),
    ],
)
def test_bad_input_is_one_message(tiny_file: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["paired", str(tiny_file), *options, "--jobs", "1"]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
