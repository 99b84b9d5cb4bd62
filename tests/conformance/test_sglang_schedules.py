"""SGLang's recorded schedules: equal to the last step where the policy has the rule, and not where a rule is changed on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve.policies.scheduling import sglang, sglang_adder, sglang_state
from simserve.validation.schedules.compare import compare
from simserve.validation.schedules.fixture import read_cases
from simserve.validation.schedules.report import headline

FOLDER = Path(__file__).parent / "fixtures"

EQUAL = "roomy tight chunks chunks-tight unchunked slots prefill-limits pages mixed prefix prefix-tight lpm priority".split()  # noqa: SIM905

OLDER = "roomy tight chunks chunks-tight unchunked prefill-limits".split()  # noqa: SIM905
"""Kinds of which all schedules of 0.5.6 and 0.5.1 are equal."""

PROFILES = {"0.5.23": "sglang-0.5.23", "0.5.6.post2": "sglang", "0.5.1.post3": "sglang-0.5.1"}


def verdicts(kind: str, version: str, first: int) -> list[str]:
    cases = read_cases(FOLDER / f"sglang-{kind}.json.gz")[:first]
    theirs = [(case.workload, case.of("sglang", version)) for case in cases]
    compared = [compare(workload, schedule, PROFILES[version]) for workload, schedule in theirs if schedule is not None]
    assert compared
    return ["equal" if one.verdict == "equal" else headline(one) for one in compared]


@pytest.mark.parametrize("kind", EQUAL)
def test_schedules_of_0_5_23_are_equal(kind):
    assert set(verdicts(kind, "0.5.23", 2)) == {"equal"}


@pytest.mark.parametrize("version", ["0.5.6.post2", "0.5.1.post3"])
@pytest.mark.parametrize("kind", OLDER)
def test_schedules_of_older_versions_are_equal(kind, version):
    assert set(verdicts(kind, version, 1)) == {"equal"}


@pytest.mark.nightly
@pytest.mark.parametrize("kind", EQUAL)
def test_all_schedules_are_equal(kind):
    assert set(verdicts(kind, "0.5.23", 100)) == {"equal"}


def test_another_victim_is_noticed(monkeypatch):
    monkeypatch.setattr(sglang, "retraction_order", lambda group: sglang_state.retraction_order(group)[::-1])
    assert set(verdicts("tight", "0.5.23", 2)) != {"equal"}


def test_another_threshold_is_noticed(monkeypatch):
    monkeypatch.setattr(sglang_state, "INIT_RATIO", 0.6)
    assert set(verdicts("tight", "0.5.23", 2)) != {"equal"}


def test_a_ratio_that_does_not_fall_is_noticed(monkeypatch):
    monkeypatch.setattr(sglang_state.NewTokenRatio, "decay", lambda self, steps: None)
    assert set(verdicts("tight", "0.5.23", 2)) != {"equal"}


def test_a_page_less_for_each_admission_is_noticed(monkeypatch):
    rules = sglang_adder.Rules(page_apiece=False)
    monkeypatch.setattr(sglang_adder.Rules, "of", lambda since: rules)
    assert set(verdicts("pages", "0.5.23", 4)) != {"equal"}


def test_another_order_of_retracted_requests_is_noticed(monkeypatch):
    monkeypatch.setattr(sglang.Sglang, "requeues_last", False)
    assert set(verdicts("tight", "0.5.23", 2)) != {"equal"}
