"""Recorded schedules of real engines are compared again: what the record calls equal is equal, to the last step."""

from __future__ import annotations

import pytest

from simserve.config import verified_schedules
from simserve.validation.schedules.compare import compare_cases
from simserve.validation.schedules.report import headline
from simserve.validation.schedules.schedule import ENGINES
from simserve.validation.schedules.verified import verified
from tests.conformance.recordings import engine_of, first_of_each_kind, recorded_cases

VERSIONS = {("vLLM", version) for version in ("0.8.5", "0.11.0", "0.19.1", "0.24.0", "0.33.0")}
"""Those that profiles name."""

CASES = first_of_each_kind(2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{engine_of(case)}-{case.workload.name}")
def test_schedules_are_equal(case):
    """In kinds of which the record says that all are."""
    record = {(one.engine, one.version, one.profile): one.kinds for one in verified_schedules.everything().versions}
    for one in compare_cases([case]):
        known = record[ENGINES[one.engine], one.version, one.profile][case.workload.kind]
        if known.of and known.equal == known.of:
            assert one.verdict == "equal", headline(one)
        elif not known.of:
            assert one.verdict.startswith("not "), headline(one)


def test_every_version_that_profiles_name_was_driven():
    record = verified_schedules.everything().versions
    assert {(one.engine, one.version) for one in record} >= VERSIONS
    for engine, version in VERSIONS:
        known = [one for one in record if (one.engine, one.version) == (engine, version)]
        assert sum(one.workloads for one in known) >= 100, (engine, version)
        for one in known:  # what is not equal says where it parts, what was not compared says why
            assert all(kind.first_difference for kind in one.kinds.values() if kind.equal < kind.of)
            assert all(kind.why for kind in one.kinds.values() if kind.not_driven or kind.not_simulated or not kind.of)


@pytest.mark.nightly
def test_the_record_is_what_comes_out():
    """All recorded workloads: the counts and the first differences that results and docs/conformance.md show."""
    assert verified(compare_cases(recorded_cases())) == verified_schedules.everything()
