"""`validated` of an engine profile follows from runs that were held out, and from nothing that a hand can write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from builders import case

import simserve
from simserve.config.engine_profile import FOLDER, EngineProfile, load_engine, names
from simserve.config.held_out import LEAST_RUNS, MOST_ERROR_PERCENT, HeldOut, MetricError, recorded, verdict_on
from simserve.validation.case import Case
from simserve.validation.evaluate import Outcome
from simserve.validation.fit import FitResult
from simserve.validation.held_out import bundled_records, by_folds, held_out, with_record
from simserve.validation.machine import overheads_of

TEXT = (FOLDER / "vllm-v1.yaml").read_text(encoding="utf-8")
OVERHEADS = {"host": {"per_step_s": 0.001}}


def facts(runs: int, error: float) -> HeldOut:
    return HeldOut(runs=runs, rows=runs, models=1, metrics={"tpot_mean": MetricError(runs=runs, median_percent=error)}).sealed(OVERHEADS)


@pytest.mark.parametrize(
    ("runs", "error", "validated"),
    [(LEAST_RUNS, 10.0, True), (LEAST_RUNS, MOST_ERROR_PERCENT + 1, False), (LEAST_RUNS - 1, 1.0, False), (60, 88.0, False)],
)
def test_enough_runs_and_a_small_error_make_it(runs: int, error: float, validated: bool) -> None:
    found = verdict_on(facts(runs, error), OVERHEADS)
    assert found.validated is validated and found.words == f"{runs} held-out runs, {error:.0f} % median error (tpot_mean)"


def test_the_worst_metric_of_enough_runs_decides() -> None:
    metrics = {"tpot_mean": MetricError(runs=9, median_percent=4.0), "ttft_mean": MetricError(runs=9, median_percent=40.0)}
    assert not verdict_on(HeldOut(runs=9, rows=9, models=2, metrics=metrics).sealed(OVERHEADS), OVERHEADS).validated
    metrics["ttft_mean"] = MetricError(runs=2, median_percent=40.0)
    assert verdict_on(HeldOut(runs=9, rows=9, models=2, metrics=metrics).sealed(OVERHEADS), OVERHEADS).validated


def test_a_throughput_alone_validates_nothing() -> None:
    """Below saturation it is the load's, whatever the host needs."""
    rate = {"output_tokens_per_s": MetricError(runs=9, median_percent=1.0)}
    assert not verdict_on(HeldOut(runs=9, rows=9, models=2, metrics=rate).sealed(OVERHEADS), OVERHEADS).validated


def test_other_overheads_or_other_facts_are_not_validated() -> None:
    found = facts(20, 5.0)
    assert "not those that were compared" in verdict_on(found, {"host": {"per_step_s": 0.002}}).words
    assert not verdict_on(found.model_copy(update={"runs": 200}), OVERHEADS).validated
    assert not verdict_on(None, OVERHEADS).validated


def test_a_run_weighs_the_same_however_many_rows_it_has() -> None:
    def outcome(run: str, error: float) -> Outcome:
        return Outcome(case(run=run, measured={"tpot_mean": 1.0}), {"tpot_mean": 1 + error})

    found = held_out([*(outcome("long", 0.9) for _ in range(30)), outcome("a", 0.1), outcome("b", 0.2)], "by hand")
    assert found.runs == 3 and found.metrics["tpot_mean"] == MetricError(runs=3, median_percent=20.0)


def test_a_hand_written_flag_is_ignored_and_said(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace("name: vllm-v1\n", "name: vllm-v1\nvalidated: true\n"))
    profile = load_engine(str(path))
    assert not profile.validated and "`validated` is ignored" in profile.ignored[0]
    result = simserve.run("quickstart", **{"engine": str(path), "workload.trace.duration_s": 60, "output.plots": False})
    assert any("`validated` is ignored" in note for note in result.notes)


def test_a_profile_with_the_name_of_a_bundled_one_does_not_borrow_its_record(tmp_path: Path) -> None:
    path = tmp_path / "vllm-v1.yaml"
    path.write_text(TEXT)
    assert load_engine(str(path)).held_out is None


def test_a_record_holds_for_the_overheads_it_was_made_of(tmp_path: Path) -> None:
    found = HeldOut(runs=8, rows=8, models=1, metrics={"tpot_mean": MetricError(runs=8, median_percent=3.0)})
    path = tmp_path / "mine.yaml"
    path.write_text(with_record(TEXT, found, "mine"))
    assert load_engine(str(path)).validated
    before = yaml.safe_load(TEXT)
    assert {key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "held_out"} == before
    host = f"per_step_s: {before['host']['per_step_s']}"
    assert host in path.read_text()
    edited = tmp_path / "edited.yaml"
    edited.write_text(path.read_text().replace(host, "per_step_s: 0.000834"))
    assert not load_engine(str(edited)).validated
    again = with_record(path.read_text(), None, "mine")
    assert "held_out" not in again


def test_what_an_experiment_changes_of_the_host_was_not_compared() -> None:
    profile = next((p for p in map(load_engine, names()) if p.validated), None)
    assert profile is not None
    changed = simserve.load("quickstart", engine={"name": profile.name, "host": {"per_step_s": 0.0123}})
    assert not changed.engine.validated


class Learned:
    """A fit that remembers what it was taught, and predicts without error or refuses."""

    def __init__(self, refusal: str = "") -> None:
        self.taught: list[set[str]] = []
        self.refusal = refusal

    def __call__(self, cases: list[Case]) -> FitResult:
        self.taught.append({one.run for one in cases})
        return FitResult(overheads_of(load_engine("vllm-v1")), {}, 1, 1, {}, {}, {}, refusal=self.refusal)


def test_no_run_is_predicted_with_what_it_taught(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [case(run=f"run {i}", measured={"tpot_mean": 1.0}) for i in range(7)]
    fit, asked = Learned(), []

    def predict(one: Case, overheads: object) -> Outcome:
        asked.append(one.run)
        assert one.run not in fit.taught[-1]
        return Outcome(one, {"tpot_mean": 1.1})

    monkeypatch.setattr("simserve.validation.held_out.predict_one", predict)
    found = by_folds(cases, fit).found
    assert found is not None and sorted(asked) == [one.run for one in cases]
    assert found.runs == 7 and found.metrics["tpot_mean"].median_percent == pytest.approx(10.0)


def test_few_runs_hold_nothing_out_and_a_refused_part_predicts_nothing() -> None:
    few = [case(run=f"run {i}", measured={"tpot_mean": 1.0}) for i in range(LEAST_RUNS - 1)]
    fit = Learned()
    assert by_folds(few, fit).found is None and not fit.taught
    found = by_folds([*few, case(run="last", measured={"tpot_mean": 1.0})], Learned("no engine"))
    assert found.found is not None and found.found.runs == 0 and found.failed == ("no engine",)


def test_the_record_of_bundled_profiles_says_of_which_overheads() -> None:
    one = replace(case(), profile="vllm-v1", measured={"tpot_mean": 1.0})
    text = bundled_records([Outcome(one, {"tpot_mean": 1.2})], "by hand")
    entry = HeldOut.model_validate(yaml.safe_load(text)["engines"]["vllm-v1"])
    assert entry.is_of(load_engine("vllm-v1").overheads) and entry.metrics["tpot_mean"].median_percent == pytest.approx(20.0)


@pytest.mark.parametrize("name", ["mindie", "orca", "lightllm", "vllm-0.19", "sarathi-serve"])
def test_profiles_with_few_held_out_runs_or_none_are_not_validated(name: str) -> None:
    """Assumed, or of a version that there are hardly any runs of."""
    found = recorded(name)
    assert (found is None or found.runs < LEAST_RUNS) and not load_engine(name).validated


@pytest.mark.parametrize("name", ["vllm-ascend"])
def test_assumed_overheads_with_few_times_held_out_are_not_validated(name: str) -> None:
    found = load_engine(name)
    assert recorded(name) is not None and not found.validated and "held-out runs" in found.verdict.words


def test_no_profile_says_so_itself() -> None:
    assert "validated" not in EngineProfile.model_fields
    for name in names():
        assert "validated" not in yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
