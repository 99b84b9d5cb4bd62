"""A run recorded in pieces says what the same run recorded whole says: counts and means the same, percentiles within the stated error."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import simserve
from benchmarks.counted_work import case
from simserve.engine.records import LaneLog
from simserve.errors import ConfigError
from simserve.report.quantiles import describe, describe_weighted
from simserve.report.streamed.levels import Level
from simserve.report.streamed.result import StreamedResult
from simserve.report.streamed.sketch import RELATIVE_ERROR, Sketch
from simserve.report.streamed.totals import Busy
from simserve.report.utilisation import busy_s, count_over_time
from simserve.report.window import Window

PERCENTILES = ("p50", "p90", "p95", "p99")
SLO = {"ttft_s": 0.5, "tpot_s": 0.05, "itl_p99_s": 0.1}
CLASSES = {"slo_classes": [{"name": "chat", "fraction": 0.5}, {"name": "batch", "fraction": 0.5}]}

CASES = {
    "one instance": case(1, 500),
    "two classes, two instances": {**case(2, 400, workload=CLASSES), "slo": {"classes": {"chat": SLO, "batch": {"e2e_s": 10.0}}}},
    "four stages": case(1, 200, group={"parallel": {"pp": 4}}),
    "more than is served": {**case(1, 200, rate=20.0), "slo": SLO},
    "a warm-up": {**case(1, 300), "metrics": {"warmup_s": 30.0}},
    "cut": {**case(1, 300), "until_s": 60.0},
}


def streamed(experiment: Any, monkeypatch: pytest.MonkeyPatch, rows: int = 40, **how: Any) -> StreamedResult:
    """The run in pieces of so many rows."""
    monkeypatch.setattr("simserve.engine.pieces.PIECE_REQUESTS", rows)
    result = simserve.run({**experiment, "stream_above": 0}, **how)
    assert isinstance(result, StreamedResult)
    return result


def different(one: Any, other: Any, key: str = "") -> list[str]:
    """Keys of figures that differ by more than they may."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), key
        return [found for name in one for found in different(one[name], other[name], f"{key}.{name}")]
    if isinstance(one, list):
        assert len(one) == len(other), key
        return [found for at, pair in enumerate(zip(one, other, strict=True)) for found in different(*pair, f"{key}.{at}")]
    if not isinstance(one, float) or not isinstance(other, float):
        return [] if one == other else [key]
    percentile = key.rpartition(".")[2] in PERCENTILES
    near = "waiting_by_quarter" in key or ".energy" in key or ".money" in key  # power is bounded piece by piece
    error = 0.01 if near else RELATIVE_ERROR if percentile else 1e-12
    return [] if math.isclose(one, other, rel_tol=error, abs_tol=1e-12) else [key]


@pytest.mark.parametrize("name", CASES)
def test_a_summary_of_pieces_is_that_of_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, pieces = simserve.run(CASES[name]), streamed(CASES[name], monkeypatch)
    one, other = whole.summary_dict(), dict(pieces.summary_dict())
    assert other.pop("streamed") == {"quantiles_relative_error": RELATIVE_ERROR, "plotted_every": 1}
    said = "Recorded in pieces (stream_above): percentiles are within 0.05 % of the exact ones"
    assert other["warnings"][-1].startswith(said)
    belief = {"uncertainty": {}}  # of a stretch of the run
    other |= {"warnings": other["warnings"][:-1], "experiment": one["experiment"]} | belief
    assert different(one | belief, other) == []
    assert different({"label": one["uncertainty"]["label"]}, {"label": pieces.summary_dict()["uncertainty"]["label"]}) == []


def test_requests_of_pieces_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    experiment = CASES["two classes, two instances"]
    simserve.run(experiment).write(tmp_path / "whole", plots=False, report=False)
    result = streamed(experiment, monkeypatch)
    assert len(result.requests) == 400
    result.write(tmp_path / "pieces", plots=False)
    one, other = (pd.read_parquet(tmp_path / name / "requests.parquet") for name in ("whole", "pieces"))
    pd.testing.assert_frame_equal(one, other, check_categorical=False)
    assert (one.dtypes == other.dtypes).all()
    assert "Drawn from all requests." in (tmp_path / "pieces" / "report.html").read_text()
    again = simserve.Result.read(tmp_path / "pieces")
    assert again.summary_dict()["requests"] == result.summary_dict()["requests"] and len(again.requests) == 400


def test_the_same_run_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (streamed(case(1, 120), monkeypatch, check=check).summary_dict() for check in (True, False))
    assert one == other


def test_a_wrong_piece_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliberately wrong: a cut that loses the first segment of what stays."""
    from simserve.engine.noted import Noted

    kept = Noted.of
    monkeypatch.setattr(Noted, "of", lambda self, chosen: kept(self, chosen & (np.arange(len(chosen)) != 40)))
    with pytest.raises(simserve.SimserveError, match="invariant I2"):
        streamed(case(1, 120), monkeypatch, check=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"output": {"steps": True}}, "its file of steps"),
        ({"output": {"timeline": True}}, "its timeline"),
        ({"metrics": {"cooldown_s": 1.0}}, "its cool-down"),
        (
            {"cluster": {**case(1, 30)["cluster"], "failures": {"times": [{"at_s": 5.0, "instance": 0}], "restart_s": 1.0}}},
            "its scaling log",
        ),
    ],
)
def test_what_needs_all_records_is_recorded_whole_and_says_so(change: Any, said: str) -> None:
    result = simserve.run({**case(1, 30), **change, "stream_above": 10})
    assert not isinstance(result, StreamedResult)
    assert any(note.startswith("Recorded whole") and said in note for note in result.summary_dict()["warnings"])


def test_below_the_threshold_nothing_changes() -> None:
    result = simserve.run({**case(1, 30), "stream_above": 30})
    assert not isinstance(result, StreamedResult) and result.notes == ()
    assert "stream_above" not in simserve.run(case(1, 30)).experiment


def test_what_a_run_in_pieces_does_not_have(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = streamed(case(1, 60), monkeypatch)
    for ask in (lambda: result.steps, lambda: result.measurement, lambda: result.write(tmp_path / "x", steps=True)):
        with pytest.raises(ConfigError, match="raise stream_above"):
            ask()


def test_the_sample_of_a_long_run_is_even(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("simserve.report.streamed.spool._SAMPLE_ROWS", 30)
    result = streamed(case(1, 200), monkeypatch, rows=7)
    assert result._spool.sample()["request"].tolist() == list(range(0, 200, 8))
    result.write(tmp_path / "out", plots=False)
    assert "Drawn from every 8th request." in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_within_the_stated_error(seed: int) -> None:
    """Values over fourteen powers of ten, NaN and zeros among them, in uneven portions; and the same with weights."""
    rng = np.random.default_rng(seed)
    values = np.exp(rng.uniform(-14, 18, 4000))
    values[rng.random(4000) < 0.1] = 0.0
    values[rng.random(4000) < 0.1] = np.nan
    weights = rng.integers(0, 5, 4000)
    known = ~np.isnan(values)
    plain, weighted, parts = Sketch(), Sketch(), [Sketch() for _ in range(4)]
    for part, alone in zip(np.split(np.arange(4000), [1, 17, 900]), parts, strict=True):
        plain.add(values[part])
        alone.add(values[part])
        weighted.add(values[part][known[part]], weights[part][known[part]])
    of_all = describe(values)
    weighed = describe_weighted(lambda: [(values[known], weights[known])])
    for sketch, exact in ((plain, of_all), (Sketch.of_all(parts), of_all), (weighted, weighed)):
        found = sketch.stats()
        assert (found.count, found.max) == (exact.count, exact.max) and found.mean == pytest.approx(exact.mean, rel=1e-12)
        for name in PERCENTILES:
            assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=RELATIVE_ERROR)


def test_the_sketch_of_nothing_and_of_one_value() -> None:
    assert Sketch().stats().count == 0
    one = Sketch()
    one.add(np.array([0.3, np.nan]))
    assert one.stats().p50 == one.stats().p99 == pytest.approx(0.3, rel=RELATIVE_ERROR) and one.stats().max == 0.3


@pytest.mark.parametrize("seed", range(5))
def test_levels_in_pieces_are_those_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    begin = np.sort(np.round(rng.uniform(0, 100, 400), 1))
    end = begin + np.round(rng.exponential(5.0, 400), 1)
    level, window = Level(20.0), Window(20.0, float(end.max()))
    cuts = [0, 3, 100, 250, 400]
    for low, high in itertools.pairwise(cuts):
        level.add(begin[low:high], end[low:high], float(begin[high]) if high < 400 else 100.0)
    level.close()
    mean, most = count_over_time(begin, end, window)
    assert (level.integral_s / window.length_s, level.most) == (pytest.approx(mean), most)
    edges = np.linspace(0.0, 100.0, 5)
    exact = [Window(a, b).overlap_s(begin, end).sum() / 25.0 for a, b in itertools.pairwise(edges)]
    assert level.means(edges) == pytest.approx(exact, rel=1e-9)


def test_seconds_with_a_step_are_those_of_all_lanes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four lanes whose spans overlap, told in portions of a few spans each."""
    rng = np.random.default_rng(1)

    def lane(number: int) -> LaneLog:
        start = np.cumsum(rng.exponential(1.0, 60)) + number
        ends = start + np.minimum(np.append(np.diff(start), 1.0), rng.exponential(1.0, 60))
        ones = np.ones(60, dtype=np.int64)
        return LaneLog(0, number, ends, np.arange(60), ones, start, *[ones] * 7)

    lanes = [lane(number) for number in range(4)]
    busy, window, total = Busy(), Window(10.0, math.inf), np.zeros(2)
    at_s = [0.0, 7.0, 21.5, 33.0, math.inf]
    for low, high in itertools.pairwise(at_s):
        parts, begun = [], []
        for one in lanes:
            first, last = np.searchsorted(one.step_end_s, (low, high))
            parts.append(one.since(int(first)))
            parts[-1] = LaneLog(0, one.lane, *(getattr(one, name)[first:last] for name in ("step_end_s",)), *_part(one, first, last))
            begun.append(float(one.span_start_s[last]) if last < 60 else math.inf)
        total += busy.add(parts, min(begun), window)
    assert total.tolist() == pytest.approx([busy_s(lanes, window), busy_s(lanes, Window(0.0, math.inf))])


def _part(lane: LaneLog, first: int, last: int) -> list[Any]:
    names = ("steps", "start_s", "decode_requests", "context_tokens", "prefill_requests", "prefill_tokens", "prefill_pairs")
    return [np.arange(last - first), *(getattr(lane, f"span_{name}")[first:last] for name in (*names, "kv_blocks", "waiting"))]


@pytest.mark.parametrize("how", [{}, {"check": True}])
def test_a_trace_read_while_it_runs_gives_the_requests_of_the_whole(how: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With columns that a few rows state (a client that gives up, an adapter) and times that go back."""
    monkeypatch.setattr("simserve.workload.chunks.CHUNK_BYTES", 1000)
    rng, rows = np.random.default_rng(1), np.arange(200)
    arrival_s = np.maximum(np.sort(rng.uniform(0, 60, 200)) - rng.uniform(0, 2, 200), 0.0)
    frame = pd.DataFrame({"arrival_s": arrival_s, "prompt_tokens": rng.integers(1, 900, 200), "output_tokens": rng.integers(1, 90, 200)})
    frame["slo_class"] = np.where(rows > 150, "batch", "chat")
    frame["patience_s"] = np.where(rows == 170, 0.01, np.nan)
    frame.to_csv(tmp_path / "trace.csv", index=False)
    section = {"trace": {"path": str(tmp_path / "trace.csv")}, "arrivals": None, "lengths": None, "count": None}
    experiment = {**case(1, 1, workload=section), "slo": {"classes": {"chat": SLO, "batch": {"e2e_s": 10.0}}}}
    whole, pieces = simserve.run(experiment, **how), streamed(experiment, monkeypatch, **how)
    pd.testing.assert_frame_equal(whole.requests, pieces.requests, check_categorical=False)
    assert (pieces.requests["status"] == "cancelled").sum() == 1
    one, other = whole.summary_dict(), dict(pieces.summary_dict())
    other.pop("streamed")
    other |= {"warnings": other["warnings"][:-1], "experiment": one["experiment"], "uncertainty": one["uncertainty"]}
    assert different(one, other) == []
    assert isinstance(whole.records.table.provenance["sha256"], str)


def test_a_long_trace_of_a_run_that_is_recorded_whole_is_the_same(tmp_path: Path) -> None:
    rows = "".join(f"{i / 4},{20 + i},{5 + i % 7}\n" for i in range(60))
    (tmp_path / "trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    section = {"trace": {"path": str(tmp_path / "trace.csv"), "start_s": 2.0}, "arrivals": None, "lengths": None, "count": None}
    experiment = {**case(1, 1, workload=section), "output": {"steps": True}}
    plain, found = simserve.run(experiment), simserve.run({**experiment, "stream_above": 10})
    pd.testing.assert_frame_equal(plain.requests, found.requests)
    assert found.records.table.provenance == plain.records.table.provenance
    assert "Recorded whole, in memory that grows with its 52 requests" in " ".join(found.notes)
