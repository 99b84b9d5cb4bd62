"""What speculation may not change: a run in which nothing is drafted, how many tokens a request gets, and what a step that begins after so
many of them gives it, whatever schedules it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from simserve.engine.records import RunRecords
from tests.engine.invariants import differences
from tests.engine.speculation.toys import KINDS, Drafting
from tests.engine.strategies import POLICIES, Case, Row, cases
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import JaggedCost

NEVER = [Drafting(0), Drafting(3, quiet_at=1), Drafting(3, more=4, quiet_at=1)]


def without_verification(records: RunRecords) -> RunRecords:
    """The records without what only an instance that speculates notes: of decodes of one token each, nothing else."""
    for lane in records.lanes:
        drafted, accepted, attended, pairs = lane.ticks.T
        assert not drafted.any() and not accepted.any() and (attended == pairs).all()
        assert attended.tolist() == lane.step_context_tokens()[np.repeat(lane.span_decode_requests > 0, lane.span_steps)].tolist()
    return replace(records, lanes=tuple(replace(lane, ticks=np.empty((0, 4), dtype=np.int64)) for lane in records.lanes))


@pytest.mark.parametrize("policy", POLICIES)
def test_where_nothing_is_drafted_a_run_is_one_without_speculation(policy: str) -> None:
    """All columns of requests, all steps, all token times, to the last bit. vllm-v1 walks its running list where memory or the budget is
    short, which an instance that speculates does not (docs/policies.md): there the fact is about instances with enough of both. SGLang's
    server runs no mixed chunks where requests speculate: there it is about instances without them."""

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(cases(policies=(policy,)))
    def run(case: Case) -> None:
        if policy == "vllm-v1":
            case = replace(case, kv_blocks=100_000, params=(*case.params, ("max_num_batched_tokens", 4096)))
        if policy == "sglang":
            case = replace(case, params=(*case.params, ("mixed_chunk", False)))
        for fast_forward in (True, False):
            plain = case.engine(fast_forward=fast_forward)
            for never in NEVER:
                quiet = replace(case, speculation=never).engine(fast_forward=fast_forward)
                assert differences(plain, without_verification(quiet)) == []

    run()


@pytest.mark.parametrize("policy", POLICIES)
def test_every_request_gets_its_tokens_however_few_drafts_are_right(policy: str) -> None:
    """With acceptance 0 each in a step of its own; with any other, the same number."""

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(cases(policies=(policy,)))
    def run(case: Case) -> None:
        plain = case.engine().requests
        for speculation in (Drafting(4, right=0), *KINDS):
            records = replace(case, speculation=speculation).engine()
            assert records.requests.generated_tokens.tolist() == plain.generated_tokens.tolist()
            assert records.requests.status.tolist() == plain.status.tolist()
            if speculation.right == 0:
                assert all(len(set(times)) == len(times) for times in token_times(records))

    run()


def gains(records: RunRecords) -> list[list[tuple[int, int]]]:
    """Of each request, after how many tokens each of its steps began and how many it gave."""
    out = []
    for times in token_times(records):
        given_at = sorted(set(times))
        numbers = [times.count(t) for t in given_at]
        out.append([(sum(numbers[:i]), numbers[i]) for i in range(len(numbers))])
    return out


@pytest.mark.parametrize("speculation", [kind for kind in KINDS if kind.quiet_at is None])
def test_what_a_request_gets_does_not_depend_on_its_scheduler(speculation: Drafting) -> None:
    """Where the budget is ample and the batch does not matter: under three engines' schedulers, and alone."""
    rows = tuple(Row(0.11 * i, 5 + 7 * i % 11, 8 + 5 * i % 23, priority=i % 3) for i in range(7))
    base = Case(rows, "sarathi", (), JaggedCost(), kv_blocks=400, block_tokens=4, max_seqs=16, speculation=speculation)
    runs = [replace(base, policy=policy).engine() for policy in ("sarathi", "vllm-v1", "sglang")]
    first, *others = [gains(records) for records in runs]
    assert all(other == first for other in others)
    assert len({records.requests.finish_s.tobytes() for records in runs}) > 1  # they are three schedules
    assert gains(replace(base, max_seqs=1).engine()) == first


def test_what_a_request_gets_outlives_a_swap() -> None:
    """Fewer blocks, other victims, another batch: each step gives what it gives where memory is ample. (After a recomputation one token
    comes from the prefill, and the steps that follow begin at other tokens.)"""
    rows = tuple(Row(0, 6, 20 + i, priority=i % 2) for i in range(5))
    ample = Case(rows, "vllm-v1", (), JaggedCost(), kv_blocks=400, block_tokens=2, max_seqs=16, speculation=Drafting(3))
    swapping = replace(ample, kv_blocks=30, preemption="swap", host_kv_blocks=200)
    for case in (swapping, replace(swapping, order="priority"), replace(swapping, policy="sarathi", kv_blocks=36)):
        records = case.engine()
        assert records.requests.preemptions.sum() > 0 and not records.requests.recomputed_tokens.any()
        assert gains(records) == gains(ample.engine())
