"""Columns of a sweep's table, what variants hide, rows that cannot be kept, and where the record of claims lies: by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simserve.catalogue import METRICS
from simserve.errors import ConfigError, OutputError
from simserve.study.base import base
from simserve.study.cache import RunCache
from simserve.study.claims import record
from simserve.study.intervals import _band, draw, headlines_of
from simserve.study.paired import compare
from simserve.study.predicate import parse_quantity
from simserve.study.sweep.result import _column
from simserve.study.task import Outcome, Task, evaluate
from simserve.version import __version__
from tests.study.conftest import BUDGET, RATE, TINY
from tests.study.test_run_cache import KEY, ROW


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([1, 2], [1, 2]),
        ([1, 2.5], [1.0, 2.5]),
        ([0.5, None], [0.5, None]),
        (["a", None], ["a", None]),
        ([True, False], [True, False]),
        ([1, "a"], ["1", "a"]),
        ([True, 2], ["True", "2"]),
        ([1.5, "a", None], ["1.5", "a", None]),
        ([None, None], [None, None]),
    ],
)
def test_values_of_one_type_stay_and_a_mixture_is_text(values: list[Any], kept: list[Any]) -> None:
    column = _column(values)
    found = [None if missing else value for value, missing in zip(column.tolist(), column.isna().tolist(), strict=True)]
    assert found == kept and [type(a) for a in found] == [type(b) for b in kept]


# ---- an experiment with variants ----

WITH_VARIANTS = {**TINY, "variants": {"small": {BUDGET: 64}, "fast": {RATE: 9.0}, "odd": {}}}
INSTANCE = "cluster.instances.0"


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        ([BUDGET], True),
        ([f"{INSTANCE}.scheduler"], True),
        ([INSTANCE], True),
        ([f"{INSTANCE}.sched"], False),
        ([f"{BUDGET}.more"], False),
        ([f"{INSTANCE}.scheduler.max_seqs"], False),
        ([RATE, "seed"], False),
        ([RATE, BUDGET], True),
    ],
)
def test_points_do_not_undo_what_their_variant_changes(keys: list[str], refused: bool) -> None:
    of = base(WITH_VARIANTS)
    if not refused:
        return of.refuse_hidden(["small", "odd"], keys)
    with pytest.raises(ConfigError, match=f"would undo what variant 'small' changes \\({BUDGET}\\)"):
        of.refuse_hidden(["odd", "small"], keys)
    return None


def test_variants_that_there_are_not() -> None:
    with pytest.raises(ConfigError, match="has no variant 'smal'; did you mean 'small'"):
        base(WITH_VARIANTS).load({"variant": "smal"})
    with pytest.raises(ConfigError, match="variant=small: the experiment has no variants"):
        base(TINY).load({"variant": "small"})


def test_what_is_changed_last_holds() -> None:
    """A point's own change, then its variant's, then what holds at all points."""

    def budget(point: dict[str, Any], fixed: dict[str, Any] | None = None) -> int:
        return int(base(WITH_VARIANTS, fixed).load(point).resolved()["cluster"]["instances"][0]["scheduler"]["token_budget"])

    assert budget({}) == 512 and budget({"variant": "small"}) == 64 and budget({"variant": "small", BUDGET: 96}) == 96
    assert (
        budget({}, {BUDGET: 128}) == 128 and budget({"variant": "small"}, {BUDGET: 128}) == 64 and budget({BUDGET: 96}, {BUDGET: 128}) == 96
    )
    assert budget({}, {"variant": "small"}) == 64 and budget({"variant": "odd"}, {"variant": "small"}) == 512
    assert base(WITH_VARIANTS, {"variant": "small"}).variant == "small" and base(WITH_VARIANTS).variant is None
    assert budget({"label": "p 1"}) == 512, "the name of a point changes nothing"


# ---- files ----


def test_a_row_that_cannot_be_kept_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match=r"ababab.*\.json: cannot be written"):
        RunCache(tmp_path / "runs").put(KEY, ROW)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"], "no part is left"
    with pytest.raises(OutputError, match=r"runs.c\.json: cannot be written"):
        record.write({}, tmp_path / "runs" / "c.json")


def test_the_record_is_rewritten_in_a_checkout_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    assert record.checkout() == root and record.record_path() == root / "experiments" / "claims.json"
    monkeypatch.setattr(record, "record_path", lambda: tmp_path / "experiments" / "claims.json")
    assert record.checkout() is None
    (tmp_path / "pyproject.toml").write_text("")
    assert record.checkout() == tmp_path


def test_outcomes_are_older_than_what_has_changed_since(tmp_path: Path) -> None:
    profile = "hardware_profiles/a100-sxm-80gb"
    now = record._digests([profile, "experiments/quickstart", "engines/vllm-v1"])

    def recorded(version: str, **files: str) -> record.Recorded:
        return record.Recorded({}, (), (), version, {**now, profile: now[profile] + files.pop("more", ""), **files})

    assert record.older_than(recorded(__version__)) == [] and all(len(digest) == 12 for digest in now.values())
    for other in ("0.0.1", "99.0"):
        assert record.older_than(recorded(other)) == [f"simserve {__version__}"]
    assert record.older_than(recorded(__version__, more="0")) == [profile]
    gone = {"engines/gone": "ab", "hardware_profiles/gone": "ab", "experiments/gone": "ab"}
    assert record.older_than(recorded(__version__, **gone)) == list(gone)


# ---- pairs ----


def test_of_one_seed_nothing_is_told_but_that_it_is_equal() -> None:
    of = parse_quantity("ttft.p99")
    one = compare(of, [1.0], [2.0])
    assert (one.verdict, one.low, one.high, one.better) == ("one seed", None, None, "")
    assert compare(of, [1.0], [1.0]).verdict == "equal" and compare(of, [1.0, 1.0], [1.0, 1.0]).verdict == "equal"
    assert compare(of, [1.0, 2.0], [2.0, 1.0]).verdict == "not told apart"
    assert compare(of, [1.0, None], [2.0, 3.0]).verdict == "not defined"


# ---- what becomes of one run ----


@pytest.mark.parametrize(
    ("problem", "error"),
    [
        (ConfigError("no such model"), "ConfigError: no such model"),
        (MemoryError(), "MemoryError: the run needs more memory than there is"),
        (KeyError("k"), "KeyError: 'k' (a bug; `simserve run` with --debug shows where)"),
    ],
)
def test_a_run_that_goes_wrong_is_a_row_with_its_error(problem: Exception, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(experiment: Any, **how: Any) -> Any:
        raise problem

    monkeypatch.setattr("simserve.simulation.simulated", broken)
    assert evaluate(Task(7, None)) == Outcome(7, None, error)  # type: ignore[arg-type]


def test_a_run_is_a_row_of_the_standard_figures_and_those_asked_for() -> None:
    outcome = evaluate(Task(3, base(TINY).load({"workload.count": 5}), (parse_quantity("ttft.p98"),)))
    assert outcome.values is not None and (outcome.number, outcome.error) == (3, None)
    assert outcome.values["requests"] == 5 and {"ttft_p99_s", "ttft_p98_s", "goodput_per_s"} <= set(outcome.values)


# ---- bands of the headlines ----


def a_summary(**changes: Any) -> dict[str, Any]:
    stats = dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "max", "count"), 1.0)
    latency = {name: {metric.name: dict(stats) for metric in METRICS} for name in ("all", "chat")}
    rates = {"requests_per_s": 2.0, "output_tokens_per_s": 3.0, "total_tokens_per_s": 4.0, "arrivals_per_s": 5.0}
    return {"latency": latency, "throughput": rates, "slo": {"all": {"attainment": 0.5, "goodput_per_s": 1.0, "limits": {}}}, **changes}


def test_which_figures_have_a_band() -> None:
    found = headlines_of(a_summary())
    assert found["throughput"] == {"requests_per_s": 2.0, "output_tokens_per_s": 3.0, "total_tokens_per_s": 4.0}
    assert found["slo"] == {"all": {"attainment": 0.5, "goodput_per_s": 1.0}} and headlines_of(a_summary(slo=None))["slo"] == {}
    assert set(found["latency"]) == {"all", "chat"}
    assert set(found["latency"]["all"]) == {"ttft_s", "itl_s", "tpot_s", "e2e_s", "normalized_latency_s_per_token"}
    assert set(found["latency"]["all"]["ttft_s"]) == {"mean", "p50", "p90", "p95", "p99"}


def test_a_band_is_the_tenth_and_the_ninetieth_of_a_hundred() -> None:
    hundred = [{"a": {"b": float(k)}, "c": None if k == 50 else 1.0, "d": None} for k in range(1, 101)]
    assert _band(hundred) == {"a": {"b": [10.0, 90.0]}, "c": None, "d": None}
    assert _band([{"a": 2.0}]) == {"a": [2.0, 2.0]}


def test_draws_come_in_pairs_and_an_operators_own_do_not_depend_on_others() -> None:
    five = draw({"gemm": 0.1, "attention": 0.5, "sure": 0.0}, 5, seed=1)
    assert len(five) == 5 and all(one["sure"] == 1.0 for one in five)
    for name in ("gemm", "attention"):
        assert five[0][name] * five[1][name] == pytest.approx(1) and five[2][name] * five[3][name] == pytest.approx(1)
        assert five[0][name] != five[2][name] != five[4][name]
    assert [one["gemm"] for one in draw({"gemm": 0.1}, 6, seed=1)][:5] == [one["gemm"] for one in five]
    assert [one["gemm"] for one in draw({"gemm": 0.1}, 5, seed=2)] != [one["gemm"] for one in five]
    wider = draw({"gemm": 0.2}, 5, seed=1)
    assert [one["gemm"] for one in wider] == pytest.approx([one["gemm"] ** 2 for one in five])
