"""Courses that are worked out with their neighbours': step by step the same as each alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.contracts import Course
from simserve.speculation import ByRow, Same, Schedule, Speculated

RATES = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0])), min_size=1, max_size=5)


def step_by_step(spec: Speculated, row: int, generated: int, output: int, drafts: int) -> list[tuple[int, int]]:
    """(tokens, drafted) of each step, from single questions."""
    out, place = [], generated
    alone = Speculated(spec.schedule, spec.rates, spec.seed, nodes=spec.nodes, hit=spec.hit)
    while place < output:
        accepted = alone.accepted(row, place, drafts)
        out.append(min(accepted + 1, output - place))
        place += out[-1]
    drafted = alone.course(row, generated, output, drafts).drafted.tolist()
    return list(zip(out, drafted, strict=True))


def pairs(before: int, width: int) -> int:
    """(query, key) pairs of a step of so many tokens after so many others."""
    return sum(before + place for place in range(1, width + 1))


@given(
    st.lists(RATES, min_size=1, max_size=3),
    st.lists(st.integers(0, 40), min_size=1, max_size=90),
    st.sampled_from([1.0, 0.4, 0.0]),
    st.integers(0, 3),
    st.data(),
)
@settings(deadline=None, max_examples=150)
def test_neighbours_change_nothing(rates: list[list[float]], outputs: list[int], hit: float, extra: int, data: st.DataObject) -> None:
    tokens = min(len(each) for each in rates)
    kinds = ByRow(np.arange(len(outputs)) % len(rates), tuple(tuple(each) for each in rates))
    nodes = tokens + extra
    spec = Speculated(Schedule(tokens), kinds, 11, nodes=nodes, hit=hit, outputs=np.array(outputs))
    for row in data.draw(st.lists(st.integers(0, len(outputs) - 1), min_size=1, max_size=6)):
        generated = data.draw(st.integers(0, outputs[row] - 1)) if outputs[row] > 1 else 0
        course = spec.course(row, generated, outputs[row], tokens)
        assert list(zip(course.tokens.tolist(), course.drafted.tolist(), strict=True)) == step_by_step(
            spec, row, generated, outputs[row], tokens
        )
        if course.before is not None:
            assert_stated(course, generated)


@pytest.mark.parametrize("rates", [(0.5, 0.8, 0.6), (0.7, 0.7, 0.7), (0.9, 0.2, 1.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("hit", [1.0, 0.5])
def test_each_of_many_rows_is_what_it_is_alone(rates: tuple[float, ...], hit: float) -> None:
    outputs = np.random.default_rng(1).integers(2, 40, 400)
    spec = Speculated(Schedule(3), Same(rates), 11, hit=hit, outputs=outputs)
    alone = Speculated(Schedule(3), Same(rates), 11, hit=hit)
    for row, output in enumerate(outputs.tolist()):
        course, single = spec.course(row, 1, output, 3), alone.course(row, 1, output, 3)
        assert course.before is not None
        assert course.tokens.tolist() == single.tokens.tolist()
        assert course.drafted.tolist() == single.drafted.tolist()


def assert_stated(course: Course, generated: int) -> None:
    """What a course says beside its steps follows from them."""
    assert course.before is not None
    assert course.sums is not None
    assert course.before.tolist() == np.cumsum([generated, *course.tokens]).tolist()
    widths = [drafted + 1 for drafted in course.drafted.tolist()]
    drafted, accepted, attended, computed = course.sums.tolist()
    assert drafted == course.drafted.tolist()
    assert accepted == [tokens - 1 for tokens in course.tokens.tolist()]
    begins = course.before[:-1].tolist()
    assert attended == [begin + width for begin, width in zip(begins, widths, strict=True)]
    assert computed == [pairs(begin, width) for begin, width in zip(begins, widths, strict=True)]
    assert course.width in (0, *set(widths))


@pytest.mark.parametrize("hit", [1.0, 0.5])
def test_those_that_follow_the_prompt_state_their_sums(hit: float) -> None:
    """From the token of the prompt on, and from the begin of any later step."""
    spec = Speculated(Schedule(3), Same((0.7,) * 3), 5, hit=hit, outputs=np.array([50, 1, 2, 300]))
    for row, output in ((0, 50), (2, 2), (3, 300)):
        course = spec.course(row, 1, output, 3)
        assert course.before is not None
        assert_stated(course, 1)
        for begin in course.before[:-1].tolist():
            rest = spec.course(row, begin, output, 3)
            assert rest.before is not None
            assert rest.before[0] == begin
            assert_stated(rest, begin)


def test_what_is_remembered_is_bounded_by_tokens_too() -> None:
    outputs = np.full(400, 20_000)
    spec = Speculated(Schedule(2), Same((0.6,) * 2), 5, outputs=outputs)
    first = spec.course(0, 1, 20_000, 2).tokens
    for row in range(0, 400, 3):
        spec.course(row, 1, 20_000, 2)
    assert sum(steps.output for steps in spec._courses.values()) == spec._tokens <= 1 << 21
    assert spec.course(0, 1, 20_000, 2).tokens.tolist() == first.tolist()
