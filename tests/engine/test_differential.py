"""The engine, with spans and without, against the naive simulator: every record of every request and every step, exactly equal."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings

from simserve.engine.records import RunRecords, Status
from tests.engine.strategies import ORDERS, POLICIES, Case, Row, cases
from tests.engine.unrolled import steps, token_times
from tests.reference.naive import Naive
from tests.reference.toy_cost import JaggedCost, RoundCost


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
        ours = Status(r.status[i]).name, r.reasons[r.reason[i]], int(r.generated_tokens[i]), int(r.preemptions[i]), int(r.recomputed_tokens[i])
        assert ours == (q.status, q.reason, q.generated, q.preemptions, q.recomputed), f"request {i}"
        assert int(r.instance[i]) == (0 if q.token_s else -1) or q.status == "REJECTED", f"request {i}: instance"
        assert times[i] == q.token_s, f"request {i}: token times"
    (lane,) = records.lanes
    assert steps(lane) == [
        (s.start_s, s.end_s, s.decodes, s.context_tokens, s.prefills, s.prefill_tokens, s.prefill_pairs) for s in naive.steps
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
