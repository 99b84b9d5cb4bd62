from __future__ import annotations

import pytest
from builders import case

from simserve.validation.evaluate import Outcome, evaluate
from simserve.validation.groups import error_groups, skipped_reasons, worst_rows
from simserve.validation.split import check_part, fit_part, is_check

KEYS = {"dataset", "engine", "gpu", "model", "metric", "rows", "skipped", "mape_percent", "median_percent"}


def test_every_measured_row_is_counted_predicted_or_not() -> None:
    seen = [
        Outcome(case(), {"ttft_mean": 0.033, "tpot_mean": 0.008}),
        Outcome(case(rows=3), {"ttft_mean": 0.015, "tpot_mean": 0.008}),
        Outcome(case(skip="no hardware profile for x", rows=5), {}, "no hardware profile for x"),
    ]
    groups = error_groups(seen)
    ttft = next(g for g in groups if g["metric"] == "ttft_mean")
    assert all(set(g) == KEYS for g in groups)
    assert (ttft["rows"], ttft["skipped"]) == (4, 5)
    assert ttft["mape_percent"] == pytest.approx((10 + 3 * 50) / 4)
    assert ttft["median_percent"] == pytest.approx(50)
    assert skipped_reasons(seen) == {"no hardware profile for x": 5}


def test_too_low_is_as_bad_as_too_high() -> None:
    low, high = Outcome(case(label="low"), {"ttft_mean": 0.03 / 4}), Outcome(case(label="high"), {"ttft_mean": 0.03 * 3})
    assert [w.label for w in worst_rows([high, low])] == ["low", "high"]


def test_impossible_cases_become_reasons_not_crashes() -> None:
    found = evaluate([case(model="llama-3.1-405b")], workers=1)[0]
    assert "does not fit" in found.skip and not found.predicted


def test_a_cached_prediction_is_the_same_and_follows_the_description(tmp_path) -> None:  # type: ignore[no-untyped-def]
    first = evaluate([case()], cache=tmp_path, workers=1)[0]
    assert len(list(tmp_path.iterdir())) == 1
    again = evaluate([case(measured={"ttft_mean": 1.0})], cache=tmp_path, workers=1)[0]
    assert again.predicted == first.predicted
    evaluate([case(tp=2)], cache=tmp_path, workers=1)
    assert len(list(tmp_path.iterdir())) == 2


def test_runs_are_never_torn_apart_by_the_split() -> None:
    cases = [case(run=f"run {i % 50}", label=str(i)) for i in range(200)]
    fit, check = {c.run for c in fit_part(cases)}, {c.run for c in check_part(cases)}
    assert not fit & check and len(fit | check) == 50
    assert 0.2 < len(check) / 50 < 0.6
    assert is_check(cases[0]) == is_check(case(run="run 0", measured={"e2e_mean": 9.0}, tp=8))
