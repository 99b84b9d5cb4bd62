"""Acceptance: what engines print turned into probabilities, and draws that give back what was stated."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.contracts import FREED, KEPT
from simserve.speculation import ByNumber, ByRow, Same, Schedule, Speculated, expected_tokens
from simserve.speculation.acceptance import Conditional, of_length, of_lengths, of_rate, of_rates
from simserve.speculation.draws import ONE, draw, draws, key, threshold
from simserve.speculation.speculated import MOST_DRAFTED

RATES = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def speculated(conditional: Conditional, **more: object) -> Speculated:
    return Speculated(Schedule(len(conditional)), Same(conditional), 7, **more)  # type: ignore[arg-type]


def enumerated(conditional: Conditional, hit: float) -> float:
    """Mean tokens of a step by summing over what may happen at every place."""
    total = (1 - hit) * 1.0
    for outcome in itertools.product((True, False), repeat=len(conditional)):
        chance = math.prod(p if right else 1 - p for p, right in zip(conditional, outcome, strict=True))
        accepted = next((place for place, right in enumerate(outcome) if not right), len(outcome))
        total += hit * chance * (accepted + 1)
    return total


@given(RATES, st.floats(0, 1))
@settings(deadline=None)
def test_expected_tokens_are_those_of_all_outcomes(rates: list[float], hit: float) -> None:
    assert expected_tokens(tuple(rates), hit=hit) == pytest.approx(enumerated(tuple(rates), hit), rel=1e-9)


@pytest.mark.parametrize(("rate", "tokens"), [(0.0, 3), (0.5, 1), (0.8, 5), (0.95, 7)])
def test_one_probability_gives_the_closed_form(rate: float, tokens: int) -> None:
    """Leviathan et al., arXiv 2211.17192, equation (1)."""
    assert expected_tokens(of_rate(rate, tokens)) == pytest.approx((1 - rate ** (tokens + 1)) / (1 - rate))


def test_what_engines_print_is_fractions_of_all_drafts() -> None:
    """vLLM's per-position rates: the first of 0.8, 0.6, 0.45 is of all drafts, and so is the third. Their sum is what a draft yields."""
    conditional = of_rates([0.8, 0.6, 0.45], 3)
    assert conditional == pytest.approx((0.8, 0.75, 0.75))
    assert expected_tokens(conditional) == pytest.approx(1 + 0.8 + 0.6 + 0.45)
    assert of_rates([0.8, 0.6, 0.45], 2) == pytest.approx((0.8, 0.75))
    assert of_rates([0.5, 0.0, 0.0], 3) == (0.5, 0.0, 0.0)


@given(st.integers(1, 16), st.floats(0, 1))
@settings(deadline=None)
def test_a_mean_length_comes_back(tokens: int, part: float) -> None:
    length = 1 + part * tokens
    conditional = of_length(length, tokens)
    assert len(set(conditional)) == 1
    assert expected_tokens(conditional) == pytest.approx(length, rel=1e-9)


def test_the_ends_of_the_lengths_are_exact() -> None:
    assert of_length(1, 4) == (0.0,) * 4
    assert of_length(5, 4) == (1.0,) * 4


@given(st.dictionaries(st.integers(1, 6), st.floats(0.01, 10), min_size=1))
@settings(deadline=None)
def test_a_distribution_of_lengths_comes_back(lengths: dict[int, float]) -> None:
    conditional = of_lengths(lengths, 5)
    mean = sum(length * weight for length, weight in lengths.items()) / sum(lengths.values())
    assert expected_tokens(conditional) == pytest.approx(mean)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: of_rate(1.2, 3), "found 1.2, expected a probability, 0 to 1"),
        (lambda: of_rate(-0.1, 3), "found -0.1, expected a probability"),
        (lambda: of_rate(math.nan, 3), "found nan, expected a probability"),
        (lambda: of_rates([0.8, 0.9], 2), r"found 0\.9 at position 2 after 0\.8.*never increase"),
        (lambda: of_rates([0.8], 2), "found rates of 1 positions, expected one for each of the 2"),
        (lambda: of_rates([0.8, -0.1], 2), r"found -0\.1"),
        (lambda: of_length(0.9, 3), r"found 0\.9: a step of 3 drafted tokens emits 1 to 4"),
        (lambda: of_length(4.1, 3), r"found 4\.1: .* 1 to 4"),
        (lambda: of_lengths({5: 1}, 3), "found length 5: .* 1 to 4"),
        (lambda: of_lengths({0: 1}, 3), "found length 0"),
        (lambda: of_lengths({1: -1}, 3), "found weight -1 of length 1"),
        (lambda: of_lengths({1: 0}, 3), "all weights are 0"),
        (lambda: Schedule(3, (8, 8), (2, 1)), "found batch size 8 after 8"),
        (lambda: Schedule(3, (0,), (2,)), "found batch size 0 after 0"),
        (lambda: Schedule(3, (8,), (4,)), "found 4 tokens, expected 0 to 3"),
    ],
)
def test_what_cannot_be_is_named(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


# -- draws -------------------------------------------------------------------------------------------------------------------------------


def test_draws_are_uniform_and_independent() -> None:
    drawn = np.concatenate([draws(key(3, row), 0, 2000) for row in range(100)]) / ONE
    assert abs(drawn.mean() - 0.5) < 4 * math.sqrt(1 / 12 / len(drawn))
    counts = np.histogram(drawn, 20, (0, 1))[0]
    expected = len(drawn) / 20
    assert ((counts - expected) ** 2 / expected).sum() < 50  # chi-square with 19 degrees of freedom: 1 in 10,000 above
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 4 / math.sqrt(len(drawn))
    by_row = np.array([draws(key(3, row), 5, 1)[0] for row in range(4_000)]) / ONE
    assert abs(np.corrcoef(by_row[:-1], by_row[1:])[0, 1]) < 4 / math.sqrt(len(by_row))


def test_a_draw_belongs_to_seed_row_place_and_stream() -> None:
    same = draws(key(1, 2), 10, 5)
    assert draws(key(1, 2), 8, 7)[2:].tolist() == same.tolist() == [draw(key(1, 2), place) for place in range(10, 15)]
    for other in (key(2, 2), key(1, 3), key(1, 2, 1)):
        assert draws(other, 10, 5).tolist() != same.tolist()


def test_certain_and_impossible_are_exact() -> None:
    assert threshold(1.0) == ONE
    assert threshold(0.0) == 0
    assert speculated((1.0, 1.0)).course(0, 1, 10, 2).tokens.tolist() == [3, 3, 3]
    assert speculated((0.0, 0.0)).course(0, 1, 5, 2).tokens.tolist() == [1, 1, 1, 1]


# -- courses -----------------------------------------------------------------------------------------------------------------------------


@given(RATES, st.integers(0, 50), st.integers(0, 60), st.integers(1, 60), st.sampled_from([1.0, 0.4, 0.0]), st.integers(0, 4), st.data())
@settings(deadline=None)
def test_a_course_is_what_the_steps_accept(
    rates: list[float], row: int, generated: int, left: int, hit: float, extra: int, data: st.DataObject
) -> None:
    """Step by step with `accepted`, whatever was asked before: same tokens, same drafts, and not a token too many."""
    tokens, output = len(rates), generated + left
    nodes = tokens + extra
    spec = speculated(tuple(rates), hit=hit, nodes=nodes)
    drafts = data.draw(st.integers(1, tokens)) if not extra else tokens
    first = data.draw(st.one_of(st.none(), st.integers(0, nodes)))
    if data.draw(st.booleans()):
        spec.course(row, max(generated - 3, 0), output, drafts)  # the same request, from an earlier token on
    found = spec.course(row, generated, output, drafts, first)
    place, width = generated, nodes if extra else drafts
    for number, (emitted, drafted) in enumerate(zip(found.tokens.tolist(), found.drafted.tolist(), strict=True)):
        asked = width if number or first is None else min(first, width)
        accepted = spec.accepted(row, place, asked)
        assert emitted == min(accepted + 1, output - place)
        assert drafted in (0, asked)
        assert drafted >= accepted
        if hit == 1:
            assert drafted == asked
        place += emitted
    assert place == output


def test_nothing_drafted_is_one_token_a_step() -> None:
    found = speculated((0.9, 0.9)).course(3, 4, 10, 0)
    assert found.tokens.tolist() == [1] * 6
    assert found.drafted.tolist() == [0] * 6


def test_a_token_is_judged_alike_whatever_is_drafted() -> None:
    """Common random numbers: where two courses both begin a step, the longer draft accepts at least what the shorter does."""
    spec = speculated((0.7,) * 6)
    for row in range(50):
        for place in range(30):
            short, long = spec.accepted(row, place, 3), spec.accepted(row, place, 6)
            assert short == min(long, 3)


@pytest.mark.parametrize("hit", [1.0, 0.4])
def test_the_mean_of_the_steps_is_the_expected_one(hit: float) -> None:
    conditional = of_rates([0.8, 0.6, 0.45], 3)
    spec = speculated(conditional, hit=hit)
    steps = np.concatenate([spec.course(row, 0, 4000, 3).tokens for row in range(40)])
    error = steps.std() / math.sqrt(len(steps))
    assert abs(steps.mean() - expected_tokens(conditional, hit=hit)) < 4 * error
    places = [(steps > place).mean() for place in (1, 2, 3)]
    for place, marginal in zip(places, (0.8, 0.6, 0.45), strict=True):
        assert abs(place - hit * marginal) < 4 * math.sqrt(0.25 / len(steps))


def test_without_a_draft_there_is_nothing_to_compute() -> None:
    """An n-gram that has not occurred: one token, none drafted, and no pass of a draft model either way."""
    spec = speculated((1.0, 1.0), hit=0.3, draft_passes=False)
    found = spec.course(1, 0, 3000, 2)
    assert set(zip(found.tokens.tolist()[:-1], found.drafted.tolist()[:-1], strict=True)) == {(1, 0), (3, 2)}
    share = (found.drafted > 0).mean()
    assert abs(share - 0.3) < 4 * math.sqrt(0.21 / len(found.drafted))
    assert spec.passes(2) == 0
    assert speculated((1.0, 1.0)).passes(2) == 2


def test_a_tree_computes_its_nodes_and_is_no_deeper_than_its_steps() -> None:
    spec = speculated((1.0,) * 3, nodes=15)
    found = spec.course(0, 0, 12, 3)
    assert found.tokens.tolist() == [4, 4, 4]
    assert found.drafted.tolist() == [15] * 3
    assert spec.accepted(0, 0, 15) == 3


def test_rows_have_rates_of_their_own() -> None:
    kinds = ByRow(np.array([0, 1, 0]), ((1.0, 1.0), (0.0, 0.0), (1.0, 0.0)))
    spec = Speculated(Schedule(2), kinds, 1)
    assert [spec.accepted(row, 5, 2) for row in range(5)] == [2, 0, 2, 1, 1]  # beyond the table: the last kind
    numbers = ByNumber(np.array([1.0, math.nan, 0.0]), 2, (1.0, 0.0))
    assert [Speculated(Schedule(2), numbers, 1).accepted(row, 5, 2) for row in range(4)] == [2, 1, 0, 1]


def test_courses_are_by_row_and_as_long_as_the_output() -> None:
    spec = Speculated(Schedule(2), ByRow(np.array([0, 1]), ((1.0, 1.0), (0.0, 0.0))), 1)
    assert spec.course(0, 1, 7, 2).tokens.tolist() == [3, 3]
    assert spec.course(1, 1, 7, 2).tokens.tolist() == [1] * 6
    assert spec.course(0, 1, 9, 2).tokens.tolist() == [3, 3, 2]  # asked again with another length of its output
    assert spec.course(0, 1, 5, 2).tokens.tolist() == [3, 1]


def test_the_first_step_of_a_course_may_have_room_for_less() -> None:
    """The token budget is used up: one token is drafted, and no more than that one can be accepted."""
    found = speculated((1.0, 1.0, 1.0)).course(0, 1, 11, 3, 1)
    assert (found.tokens.tolist(), found.drafted.tolist()) == ([2, 4, 4], [1, 3, 3])
    none = speculated((1.0, 1.0, 1.0)).course(0, 1, 6, 3, 0)
    assert (none.tokens.tolist(), none.drafted.tolist()) == ([1, 4], [0, 3])


def test_the_number_of_drafts_follows_the_batch() -> None:
    spec = Speculated(Schedule(4, (8, 32), (2, 0)), Same((0.5,) * 4), 0, rejected_kv=FREED)
    assert [spec.drafts(size) for size in (1, 7, 8, 31, 32, 1000)] == [4, 4, 2, 2, 0, 0]
    assert spec.rejected_kv == FREED
    assert speculated((0.5,)).rejected_kv == KEPT


def test_many_requests_are_remembered_without_end_and_answered_alike() -> None:
    spec = speculated((0.6,) * 2)
    before = [spec.course(row, 0, 20, 2).tokens.tolist() for row in range(8300)]
    assert [spec.course(row, 0, 20, 2).tokens.tolist() for row in range(8300)] == before
    assert len(spec._courses) <= 8192


def test_the_longest_draft_fits() -> None:
    found = speculated((1.0,) * MOST_DRAFTED).course(0, 0, 1000, MOST_DRAFTED)
    assert found.tokens.tolist() == [MOST_DRAFTED + 1] * 7 + [1000 - 7 * (MOST_DRAFTED + 1)]
