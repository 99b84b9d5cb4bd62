"""What is recorded of a step."""

from __future__ import annotations

import dataclasses
from dataclasses import fields

from simserve.engine.records import LaneLog, Span, span_bytes
from tests.engine.fixed_cases import ROOMY
from tests.engine.strategies import Row


def test_each_number_stands_in_the_place_of_its_name() -> None:
    """Two requests of 20 and 6 tokens, a budget of 16, blocks of 4: a chunk of the first; its rest and the second; both decode, twice."""
    case = dataclasses.replace(ROOMY, policy="sarathi", params=(("token_budget", 16),), rows=(Row(0.0, 20, 3), Row(0.0, 6, 3)))
    lane = case.engine().lanes[0]
    first, second = lane.step_end_s[:2].tolist()
    expected = [
        Span(1, 0.0, 0, 0, 1, 16, 16 * 17 // 2, 5, 1),
        Span(1, first, 0, 0, 2, 10, 4 * 16 + 4 * 5 // 2 + 6 * 7 // 2, 7, 0),
        Span(2, second, 2, 21 + 7, 0, 0, 0, 8, 0),
    ]
    names = {name: "decode_requests" if name == "decodes" else name for name in Span._fields}
    found = [Span(*(getattr(lane, f"span_{names[name]}")[span] for name in Span._fields)) for span in range(3)]
    assert found == expected


def test_a_span_is_as_many_doubles_as_it_has_fields() -> None:
    assert len(span_bytes(*range(len(Span._fields)))) == 8 * len(Span._fields)


def test_what_is_recorded_is_in_the_log() -> None:
    columns = {field.name for field in fields(LaneLog)}
    assert {f"span_{name}" for name in Span._fields if name != "decodes"} | {"span_decode_requests"} <= columns
