"""Recorded schedules of real engines are compared again: what the record calls equal is equal, to the last step."""

from __future__ import annotations

import pytest

from simserve.config import verified_schedules
from simserve.validation.schedules.compare import compare_cases
from simserve.validation.schedules.report import headline
from simserve.validation.schedules.schedule import ENGINES
from simserve.validation.schedules.verified import verified
from tests.conformance.recordings import FILES, of_file

VERSIONS = {("vLLM", version) for version in ("0.8.5", "0.11.0", "0.19.1", "0.24.0", "0.33.0")}
"""Those that profiles name."""

COMPARED = 2
"""Workloads of a kind that are compared at every change; all of them are every night."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.split(".")[0])
def test_schedules_are_equal(path):
    """In kinds of which the record says that all are."""
    record = {(one.engine, one.version, one.profile): one.kinds for one in verified_schedules.everything().versions}
    for one in compare_cases(of_file(path)[:COMPARED]):
        known = record[ENGINES[one.engine], one.version, one.profile][one.workload.kind]
        if known.of and known.equal == known.of:
            left = {"not driven": known.not_driven, "not simulated": known.not_simulated}
            assert one.verdict == "equal" or left.get(one.verdict), headline(one)
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
    cases = [case for path in FILES for case in of_file(path)]
    assert verified(compare_cases(cases)) == verified_schedules.everything()
