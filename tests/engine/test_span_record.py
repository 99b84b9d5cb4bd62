"""A span is recorded by the names of the step that it is."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from simserve.engine.plan import StepPlan
from simserve.engine.records import LaneLog, Span, span_of


class Numbered:
    """Every attribute is the place of its name among those of a span."""

    def __getattr__(self, name: str) -> int:
        return Span._fields.index(name)


def test_each_number_stands_in_the_place_of_its_name() -> None:
    assert np.frombuffer(span_of(Numbered())).tolist() == list(range(len(Span._fields)))


@pytest.mark.pure("compiled classes have no slots to be read")
def test_a_step_has_what_is_recorded_of_it() -> None:
    slots = {name for kind in StepPlan.__mro__ for name in getattr(kind, "__slots__", ())}
    assert set(Span._fields) <= slots


def test_what_is_recorded_is_in_the_log() -> None:
    columns = {field.name for field in fields(LaneLog)}
    assert {f"span_{name}" for name in Span._fields if name != "decodes"} | {"span_decode_requests"} <= columns
