"""The simulator does no more for a request than is recorded: counted, so that a busy machine changes nothing."""

from typing import Any

import pytest

from benchmarks.counted_work import PYTHON, cases, counted, recorded

TOLERANCE = 1.02
"""A change that costs more says so: `python -m benchmarks.counted_work --write`, and why in its commit."""

pytestmark = pytest.mark.pure("calls are counted where methods are replaced")

OF_PYTHON = "function calls"
"""Versions of Python differ in these only."""


@pytest.mark.parametrize("name", cases())
def test_a_request_costs_no_more_than_is_recorded(name: str) -> None:
    record: dict[str, Any] = recorded()
    known, found = record["counts"][name], counted(cases()[name])
    assert found.keys() == known.keys()
    more = {what: f"{found[what]} for {known[what]}" for what in known if found[what] > TOLERANCE * known[what]}
    if record["python"] != PYTHON:
        more.pop(OF_PYTHON, None)
    assert not more, f"{name}: more work for a request than is recorded ({more})"


def test_counts_are_the_same_every_time() -> None:
    assert counted(cases()["one instance"]) == counted(cases()["one instance"])
