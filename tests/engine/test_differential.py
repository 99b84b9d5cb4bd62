"""The engine, with spans and without, against the naive simulator: every record of every request and every step, exactly equal."""

from __future__ import annotations

import math
import os
from collections import Counter

import pytest
from hypothesis import given, settings

from simserve.contracts import FREED
from simserve.engine.records import RunRecords, Status
from tests.engine.strategies import ORDERS, POLICIES, Case, Row, cases
from tests.engine.unrolled import steps, token_times
from tests.reference.naive import Naive
from tests.reference.toy_cost import JaggedCost

EXAMPLES = int(os.environ.get("SIMSERVE_DIFFERENTIAL_EXAMPLES", "40"))
"""Cases per policy and order; more for a thorough hunt."""


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def assert_agree(records: RunRecords, naive: Naive) -> None:
    r = records.requests
    times = token_times(records)
    for q in naive.reqs:
        i = q.row
        first_token_s = q.token_s[0] if q.token_s else math.nan
        pairs = {
            "released_s": (float(r.released_s[i]), q.released_s),
            "scheduled_s": (float(r.scheduled_s[i]), q.scheduled_s),
            "first_token_s": (float(r.first_token_s[i]), first_token_s),
            "finish_s": (float(r.finish_s[i]), q.finish_s),
        }
        for name, (ours, theirs) in pairs.items():
            assert same(ours, theirs), f"request {i}: {name} is {ours!r}, the naive simulator says {theirs!r}"
        counts = int(r.generated_tokens[i]), int(r.preemptions[i]), int(r.recomputed_tokens[i])
        assert counts == (q.generated, q.preemptions, q.recomputed), f"request {i}: tokens generated, preemptions, tokens recomputed"
        assert (Status(r.status[i]).name, r.reasons[r.reason[i]]) == (q.status, q.reason), f"request {i}: its end"
        assert int(r.instance[i]) == (0 if q.token_s else -1) or q.status == "REJECTED", f"request {i}: instance"
        assert times[i] == q.token_s, f"request {i}: token times"
    (lane,) = records.lanes
    assert steps(lane) == [
        (s.start_s, s.end_s, s.decodes, s.context_tokens, s.prefills, s.prefill_tokens, s.prefill_pairs, s.layers, s.verified)
        for s in naive.steps
    ]
    first = lane.span_first_step.tolist()
    last = (lane.span_first_step + lane.span_steps - 1).tolist()
    assert lane.span_waiting.tolist() == [naive.steps[i].waiting for i in first], "requests waiting"
    assert lane.span_kv_blocks.tolist() == [naive.steps[i].kv_blocks for i in last], "KV blocks in use"


def check(case: Case) -> None:
    naive = case.naive()
    for fast_forward in (True, False):
        assert_agree(case.engine(fast_forward=fast_forward), naive)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_engine_equals_naive(policy: str, order: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(cases(policies=(policy,), orders=(order,)))
    def run(case: Case) -> None:
        check(case)

    run()


@pytest.mark.parametrize("policy", POLICIES)
def test_engine_equals_naive_where_layers_keep_different_tokens(policy: str) -> None:
    @settings(max_examples=2 * EXAMPLES, deadline=None, derandomize=True)
    @given(cases(policies=(policy,), grouped=True))
    def run(case: Case) -> None:
        check(case)

    run()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("policy", POLICIES)
def test_engine_equals_naive_where_it_speculates(policy: str, order: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(cases(policies=(policy,), orders=(order,), speculating=True))
    def run(case: Case) -> None:
        check(case)

    run()


@pytest.mark.parametrize("policy", POLICIES)
def test_engine_equals_naive_where_it_speculates_and_layers_keep_different_tokens(policy: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(cases(policies=(policy,), grouped=True, speculating=True))
    def run(case: Case) -> None:
        check(case)

    run()


@pytest.mark.parametrize("policy", POLICIES)
def test_engine_equals_naive_where_steps_vary(policy: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
    @given(cases(policies=(policy,), varied=True) | cases(policies=(policy,), varied=True, speculating=True))
    def run(case: Case) -> None:
        check(case)

    run()


FAULTS = {
    "a row that fails at the instant another ends was released twice (closed loop)": Case(
        (Row(0, 1, 1), Row(0, 1, 0), Row(0, 1, 1), Row(0, 1, 0)), "sarathi", (), JaggedCost(), 2, 1, 1, concurrency=1
    ),
    "the request that follows one rejected in a plan was never seen (closed loop)": Case(
        (Row(0, 1, 1), Row(0, 2, 1), Row(0, 1, 1)), "vllm-v0", (("max_num_batched_tokens", 1),), JaggedCost(), 3, 1, 1, concurrency=1
    ),
    "it was seen only at the end of the span that began at that instant": Case(
        (Row(0, 1, 40), Row(0, 3, 1), Row(0, 9, 1), Row(0, 1, 1), Row(0, 1, 1)),
        "vllm-v0", (("max_num_batched_tokens", 4),), JaggedCost(), 60, 1, 4, concurrency=2,
    ),
    "the longest context was forgotten when the longest left as a shorter one joined": Case(
        (Row(0, 1, 9), Row(0, 2, 2), Row(0, 1, 2)), "sarathi", (("token_budget", 1), ("chunked", False)), JaggedCost(), 5, 2, 3
    ),
    "a prompt too long for a step is refused once no request is swapped out, not before": Case(
        (Row(0, 2, 9), Row(0, 2, 9), Row(0.14, 6, 1)), "vllm-v0", (("max_num_batched_tokens", 4),), JaggedCost(), 12, 1, 4,
        preemption="swap", host_kv_blocks=100,
    ),
    "a delay too small to change the time missed the plan made at that time": Case(
        (Row(0, 5, 5), Row(0, 4, 4), Row(1e-20, 5, 5, after=1)), "vllm-v1", (("max_num_batched_tokens", 16),), JaggedCost(), 200, 4, 6
    ),
    "after a preemption, in priority order": Case(
        tuple(Row(0.02 * i, 4 + i % 3, 9, priority=i % 2) for i in range(8)), "vllm-v1", (), JaggedCost(), 8, 3, 5, order="priority"
    ),
}  # fmt: skip
"""What was wrong, in the engine or in a mutant of it -> the case that showed it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_cases_that_showed_a_fault(fault: str) -> None:
    check(FAULTS[fault])


def test_the_random_cases_are_hard() -> None:
    """What the agreement is worth: the random cases swap, recompute, refuse, truncate, wait and tie, not once but all the time."""
    seen: Counter[str] = Counter()

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(cases())
    def look(case: Case) -> None:
        naive = case.naive()
        swapped = sum(r.preemptions for r in naive.reqs) > 0 and case.preemption == "swap"
        seen.update(
            cases=1,
            preempted=any(r.preemptions for r in naive.reqs),
            swapped=swapped and any(r.preemptions and not r.recomputed for r in naive.reqs),
            recomputed=any(r.recomputed for r in naive.reqs),
            refused=any(r.status == "REJECTED" for r in naive.reqs),
            truncated=any(r.status == "COMPLETED" and r.reason for r in naive.reqs),
            waited=any(s.waiting for s in naive.steps),
            tied=len({r.released_s for r in naive.reqs}) < len(naive.reqs),
            chunked=any(s.prefills and s.decodes for s in naive.steps),
            long_decodes=any(r.generated > 12 for r in naive.reqs),
        )

    look()
    often = ("preempted", "recomputed", "waited", "tied", "chunked", "long_decodes")
    assert min(seen[what] for what in often) >= 50, seen
    assert min(seen[what] for what in ("swapped", "refused", "truncated")) >= 12, seen


def test_the_random_cases_that_speculate_are_hard() -> None:
    """Drafts are accepted, rejected, cut by the budget and the longest sequence, not made; they preempt, and come back from the host."""
    seen: Counter[str] = Counter()

    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(cases(speculating=True))
    def look(case: Case) -> None:
        naive = case.naive()
        assert case.speculation is not None
        seen.update(
            cases=1,
            accepted=any(s.verified[1] for s in naive.steps),
            rejected=any(s.verified[0] > s.verified[1] for s in naive.steps),
            quiet=any(s.decodes and not s.verified[0] for s in naive.steps),
            beside_prompts=any(s.verified[0] and s.prefills for s in naive.steps),
            budget=naive.cut["budget"] > 0,
            limit=bool(naive.cut["limit"]),
            preempted=any(r.preemptions for r in naive.reqs),
            swapped=any(r.preemptions and not r.recomputed for r in naive.reqs),
            freed=case.speculation.rejected_kv == FREED,
        )

    look()
    often = ("accepted", "rejected", "quiet", "beside_prompts", "preempted", "freed")
    assert min(seen[what] for what in often) >= 50, seen
    assert min(seen[what] for what in ("budget", "limit", "swapped")) >= 8, seen
