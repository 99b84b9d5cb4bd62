"""Past-Future's decision rule (arXiv 2507.10150) on cases worked out by hand. Its schedules are in the differential test too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.policies.scheduling.past_future import OutputHistory, PastFuture, draws_for, peak_tokens
from simserve.workload.requests import RequestTable, Workload
from tests.reference.toy_cost import RoundCost

STEP_S = 0.25
"""A step of RoundCost with few tokens."""


def serve(rows: list[tuple[float, int, int, int]], kv_tokens: int, **params: Any) -> RunRecords:
    """Requests (arrival_s, prompt, output, stated limit) on an instance with blocks of one token."""
    arrival, prompt, output, limit = (np.array(column) for column in zip(*rows, strict=True))
    table = RequestTable.build(arrival.astype(float), prompt, output, max_output_tokens=limit)
    scheduler = PastFuture(PastFuture.Params(**{"reserve": 0.0, "max_seqs": 64, **params}))
    spec = InstanceSpec("i0", scheduler, RoundCost(), kv_blocks=kv_tokens, block_tokens=1, max_seqs=64)
    return simulate(Workload(table), [spec], check=True)


def steps_before(records: RunRecords, row: int) -> int:
    """Steps that had ended when the request had its first one."""
    (lane,) = records.lanes
    return int(np.searchsorted(lane.step_end_s, records.requests.scheduled_s[row], side="right"))


def test_the_peak_is_what_memory_reaches_step_by_step() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = int(rng.integers(1, 9))
        held, left = rng.integers(0, 30, n), rng.integers(1, 20, n)
        steps = range(1, int(left.max()) + 1)
        walked = max(sum(int(h) + t for h, x in zip(held, left, strict=True) if x >= t) for t in steps)
        assert peak_tokens(held.astype(float), left[None, :].astype(float)) == walked


def test_the_highest_of_the_draws_counts() -> None:
    # Ending after 4 and 2 steps: 2 steps x 2 requests + 10 + 20 = 34. After 9 and 2: one request at 10 + 9, both at 34. After 9 and 9: 48.
    held = np.array([10.0, 20.0])
    assert peak_tokens(held, np.array([[4.0, 2.0]])) == 34
    assert peak_tokens(held, np.array([[4.0, 2.0], [9.0, 9.0], [9.0, 2.0]])) == 48


def test_lengths_are_drawn_from_what_was_longer() -> None:
    past = OutputHistory(window=3)
    for tokens in (30, 10, 20):
        past.add(tokens)
    fractions = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    # After 15 tokens 20, 30 and the request's own limit are left; after 30 only the limit is.
    assert past.quantile(fractions, np.array([15]), np.array([100])).tolist() == [20, 25, 30, 65, 100]
    assert past.quantile(fractions, np.array([30]), np.array([100])).tolist() == [100] * 5
    assert past.quantile(fractions[[0, -1]], np.array([0]), np.array([25])).tolist() == [10, 25]


def test_the_window_forgets_the_oldest_and_begins_careful() -> None:
    past = OutputHistory(window=4)
    assert past.quantile(np.array([0.0]), np.array([0]), np.array([64])).tolist() == [64]  # nothing is known: as long as may be
    for tokens in (5, 5, 5, 5, 7):
        past.add(tokens)
    assert past.quantile(np.array([0.0, 0.5, 0.75]), np.array([0]), np.array([64])).tolist() == [5, 5, 7]


@pytest.mark.parametrize(("running", "draws"), [(0, 5), (1, 5), (50, 5), (51, 4), (100, 3), (101, 2), (200, 2), (201, 1)])
def test_draws_fall_with_the_batch(running: int, draws: int) -> None:
    assert draws_for(running) == draws


@pytest.mark.parametrize(("kv_tokens", "steps"), [(101, 0), (100, 2), (90, 11)])
def test_admission_by_the_peak_of_the_longest_allowed(kv_tokens: int, steps: int) -> None:
    """Two prompts of 10 that may generate 40 each. Together from the start they peak at 100. When the first has g tokens, the second is
    alone at the end, and both together need 2 (40 - g) + 10 + g + 10 = 100 - g: below 90 at g = 11, which is after 11 steps; below 100
    from the prefill on, but the next look is after a decode."""
    rows = [(0.0, 10, 30, 40), (0.0, 10, 30, 40)]
    assert steps_before(serve(rows, kv_tokens, predict="limit", wait_steps=1), 1) == steps


def test_the_oracle_needs_no_more_than_is_used() -> None:
    rows = [(0.0, 10, 30, 40), (0.0, 10, 30, 40)]
    assert steps_before(serve(rows, 81, predict="oracle"), 1) == 0
    assert PastFuture(PastFuture.Params(predict="oracle")).oracle
    assert not PastFuture(PastFuture.Params()).oracle and not PastFuture(PastFuture.Params(predict="limit")).oracle


def test_it_learns_how_long_answers_are() -> None:
    """100 tokens, limit 80 each: two at a time cannot be promised. When eight have ended after 5 tokens, several run at once."""
    rows = [(0.0, 10, 5, 80)] * 24
    records = serve(rows, 100, window=4, wait_steps=1)
    first, last = records.requests.scheduled_s[:3], records.requests.scheduled_s[-3:]
    assert len(set(first.tolist())) == 3
    assert len(set(last.tolist())) == 1
    assert records.counters["preemptions"] == 0


def test_a_request_alone_has_all_there_is() -> None:
    """It might need more than the reserve leaves, or than its limit allows to promise; no other request is there to be hurt."""
    records = serve([(0.0, 10, 20, 80)], 60, reserve=0.5)
    assert records.requests.generated_tokens.tolist() == [20]


def test_newcomers_wait_for_the_next_look() -> None:
    """The first prompt runs in step 1. Looks are after 6, 12 ... decode steps: who comes in step 3 is seen after step 7."""
    rows = [(0.0, 4, 40, 40), (2.5 * STEP_S, 4, 1, 1)]
    assert steps_before(serve(rows, 1000), 1) == 7
    assert steps_before(serve(rows, 1000, wait_steps=1), 1) == 3


def test_prompts_fill_a_step_of_their_own() -> None:
    """No request decodes in a prefill step; a prompt longer than a step may be runs alone."""
    records = serve([(0.0, 6, 3, 3), (0.0, 6, 3, 3), (0.0, 30, 3, 3)], 1000, max_num_batched_tokens=16, wait_steps=1)
    (lane,) = records.lanes
    mixed = (lane.span_decode_requests > 0) & (lane.span_prefill_tokens > 0)
    assert not mixed.any()
    assert lane.span_prefill_tokens[lane.span_prefill_tokens > 0].tolist() == [12, 30]


@pytest.mark.parametrize(("second", "chunks"), [(8, [16]), (9, [8, 9])])
def test_a_prefill_step_holds_its_budget_to_the_token(second: int, chunks: list[int]) -> None:
    records = serve([(0.0, 8, 3, 3), (0.0, second, 3, 3)], 1000, max_num_batched_tokens=16, wait_steps=1)
    (lane,) = records.lanes
    assert lane.span_prefill_tokens[lane.span_prefill_tokens > 0].tolist() == chunks
