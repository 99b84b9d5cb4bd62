"""Multi-turn sessions of the synthetic BurstGPT have the figures published for the part of the trace with session ids (BurstGPT_3)."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.workload.generators.burstgpt import burstgpt_like, facts
from simserve.workload.generators.burstgpt.sessions import source_elapsed_s
from simserve.workload.generators.burstgpt.trace import _renumber
from simserve.workload.requests import RequestTable


@pytest.fixture(scope="module")
def turns() -> RequestTable:
    return burstgpt_like(16, seed=1, start_day=3, api=False, sessions=True, integer_times=False)


def pairs(table: RequestTable) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a turn and of the one before it in its session."""
    order = np.argsort(table.session, kind="stable")
    later = np.flatnonzero(table.session[order][1:] == table.session[order][:-1]) + 1
    return order[later], order[later - 1]


def test_every_published_distribution_is_one() -> None:
    """Probabilities rise from 0 to 1, and tokens, seconds and counts rise with them."""
    tables = [
        (facts.INPUT_P, *facts.INPUT_TOKENS.values()),
        *((facts.OUTPUT_P, row) for table in facts.OUTPUT_TOKENS_BY_BIN.values() for row in table),
        (facts.API_HOUR_P, facts.API_HOUR_COUNT),
        (facts.API_INPUT_P, facts.API_INPUT_TOKENS),
        (facts.API_OUTPUT_P, facts.API_OUTPUT_TOKENS),
        (facts.GAP_P, facts.GAP_S),
        (facts.FIRST_INPUT_P, facts.FIRST_INPUT_TOKENS),
        (facts.USER_TEXT_P, facts.USER_TEXT_TOKENS),
        (facts.SESSION_OUTPUT_P, facts.SESSION_OUTPUT_TOKENS),
    ]
    for p, *values in tables:
        assert p[0] == 0 and p[-1] == 1 and (np.diff(p) > 0).all()
        assert all(len(row) == len(p) and (np.diff(row) >= 0).all() for row in values)
    assert facts.TURNS_P_1_TO_10.sum() == pytest.approx(facts.TURNS_TAIL[0][0], abs=0.001)
    assert facts.WEEKDAY_PER_HOUR.shape == facts.WEEKEND_PER_HOUR.shape == facts.FAILED_BY_HOUR.shape == (24,)


def test_the_published_aggregates_agree_with_each_other() -> None:
    """Hours add up to days, days to the whole, and what was solved from a published autocorrelation has it."""
    week = facts.PER_DAY_OF_WEEK
    assert facts.WEEKDAY_PER_HOUR.sum() == pytest.approx(week[[0, 1, 2, 5, 6]].mean(), abs=0.5)
    assert facts.WEEKEND_PER_HOUR.sum() == pytest.approx(week[list(facts.WEEKEND_DAYS)].mean(), abs=0.5)
    level = np.interp(np.arange(facts.DAYS), [facts.DECLINE_FROM_DAY, facts.DAYS - 1], [1.0, facts.DECLINE_TO])
    assert (week[np.arange(facts.DAYS) % 7] * level).sum() == pytest.approx(facts.CONVERSATION_ROWS, rel=0.1)
    assert (facts.CONVERSATION_ROWS + facts.API_ROWS, facts.FAILED_ROWS) == (1_429_737, 25_443), "the rows of BurstGPT_1"
    assert facts.API_ZERO_HOURS == 636 / (24 * facts.DAYS)
    published = {1: 0.79, 2: 0.68, 3: 0.58, 6: 0.36, 24: 0.47, 48: 0.36, 168: 0.26}
    for hours, correlation in published.items():
        daily = facts.API_CYCLE_VAR * np.cos(2 * np.pi * hours / 24)
        latent = daily + sum(variance * np.exp(-hours / time) for variance, time in (facts.API_SLOW, facts.API_FAST))
        assert latent == pytest.approx(correlation, abs=0.025), hours
    variances = {1: 0.055, 2: 0.041, 6: 0.037, 24: 0.023}
    for hours, variance in variances.items():
        found = facts.MULTIPLIER_DAY_VAR
        for each, time_s in ((facts.MULTIPLIER_SLOW_VAR, facts.MULTIPLIER_SLOW_S), (facts.MULTIPLIER_FAST_VAR, facts.MULTIPLIER_FAST_S)):
            found += each * np.exp(-3600 * hours / time_s)
        assert found == pytest.approx(variance, abs=0.01), hours


def test_no_gap_is_longer_than_three_days() -> None:
    """BurstGPT_3's sessions: gaps between the starts of two turns reach 3 days, and one in a hundred is longer than 78,903 s."""
    assert facts.GAP_S[-1] == facts.GAP_MAX_S == 3 * 24 * 3600
    assert facts.GAP_P[facts.GAP_S.tolist().index(78_903)] == 0.99


def test_how_many_turns_and_how_long_between_them(turns: RequestTable) -> None:
    _, count = np.unique(turns.session[turns.arrival_s < 6 * 86400], return_counts=True)
    later, before = pairs(turns)
    gaps = turns.arrival_s[later] - turns.arrival_s[before]
    # Long gaps are cut off by the end of the stretch, so the quantiles are a little short.
    assert np.quantile(gaps, (0.1, 0.25, 0.5, 0.75, 0.9)) == pytest.approx((20, 42, 131, 533, 2340), rel=0.12)
    assert gaps.min() >= 3 and gaps.max() < 3 * 86400
    assert (count == 1).mean() == pytest.approx(0.355, abs=0.04) and (count == 2).mean() == pytest.approx(0.204, abs=0.03)
    assert count.max() > 31


def test_the_first_prompt_and_the_answers(turns: RequestTable) -> None:
    later, _ = pairs(turns)
    first = np.setdiff1d(np.arange(len(turns)), later)
    begun = first[turns.arrival_s[first] > 3 * 86400]  # those before may have started before the stretch
    assert np.quantile(turns.prompt_tokens[begun], (0.1, 0.5, 0.75, 0.9)) == pytest.approx((12, 49, 125, 380), rel=0.1)
    assert turns.prompt_tokens.min() >= 3
    answers = turns.output_tokens
    assert np.quantile(answers, (0.1, 0.5, 0.75, 0.9, 0.99)) == pytest.approx((15, 187, 350, 669, 1067), rel=0.08)
    assert answers.min() == 1 and 1500 < answers.max() <= 2048


def test_a_turn_resends_its_history_with_new_text_unless_it_is_broken(turns: RequestTable) -> None:
    later, before = pairs(turns)
    history = turns.prompt_tokens[before] + turns.output_tokens[before]
    text = turns.prompt_tokens[later] - history
    whole = text >= 3
    assert np.quantile(text[whole], (0.1, 0.5)) == pytest.approx((14, 34), rel=0.1)  # long texts hide a broken history
    assert text.max() <= 3000
    # Histories are broken in 27 of 100 turns, and more often where they no longer fit in the window.
    assert (~whole).mean() == pytest.approx(0.27, abs=0.05)


def test_no_prompt_exceeds_its_models_window_by_more_than_new_text(turns: RequestTable) -> None:
    """A history that has grown beyond the window is cut to at most half of it."""
    for model, window in (("ChatGPT", 8192), ("GPT-4", 16384)):
        prompts = turns.prompt_tokens[turns.label_model.codes == turns.label_model.names.index(model)]
        assert 0.9 * window < prompts.max() <= window


def test_answer_times_of_the_source() -> None:
    """ChatGPT: 1.1 s and 10.9 ms a token; GPT-4: 0.36 s and 116 ms."""
    assert source_elapsed_s(np.array([0, 1]), np.array([100, 100])) == pytest.approx([2.19, 11.96])


def test_the_table_says_how_many_failed() -> None:
    table = burstgpt_like(2, seed=2, start_day=9)
    failed = int((table.output_tokens == 0).sum())
    assert failed > 0 and table.provenance["failures"] == failed and table.provenance["rows"] == len(table)
    assert burstgpt_like(1, seed=2, start_day=9, failures=False).provenance["failures"] == 0


@pytest.mark.parametrize(
    ("session", "numbered"),
    [
        ([5, 3, 5, 9], [0, 1, 0, 2]),
        ([5, -1, 3, -1], [0, -1, 1, -1]),
        ([-1, 7, 2], [-1, 0, 1]),
        ([-1, -1], [-1, -1]),
        ([4], [0]),
        ([], []),
    ],
)
def test_sessions_are_numbered_as_they_appear(session: list[int], numbered: list[int]) -> None:
    assert _renumber(np.array(session, dtype=np.int64)).tolist() == numbered
