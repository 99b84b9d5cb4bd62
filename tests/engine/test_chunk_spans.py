"""Spans that carry chunks of prompts: what they record is what a policy that is asked before each step would have made of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simserve
from simserve.contracts import InstanceView, Slice, Step, StepPlan
from simserve.engine import simulate
from simserve.errors import InvariantError
from simserve.policies.scheduling.sarathi import Sarathi
from tests.engine.fixed_cases import ROOMY
from tests.engine.invariants import dump
from tests.engine.strategies import Case, Row, cases
from tests.reference.toy_cost import JaggedCost

LONG = dataclasses.replace(ROOMY, policy="sarathi", params=(("token_budget", 16),), kv_blocks=500, cost=JaggedCost())


class Asked(Sarathi):
    """Counts how often it is asked."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.times = 0

    def plan(self, view: InstanceView) -> StepPlan:
        self.times += 1
        return super().plan(view)


class EachStep(Asked):
    """Wants to be asked before each step with chunks."""

    def plan(self, view: InstanceView) -> StepPlan:
        plan: Any = super().plan(view)
        if plan.slices:
            plan.repeat, plan.with_chunks = 1, False
        return plan  # type: ignore[no-any-return]


def both(case: Case, **options: Any) -> tuple[int, int]:
    """How often the two are asked in a case; all that they leave is the same."""
    params = Sarathi.Params(**dict(case.params), max_seqs=case.max_seqs)
    asked, each = Asked(params), EachStep(params)
    assert dump(case.engine(asked, **options)) == dump(case.engine(each, **options))
    return asked.times, each.times


def test_a_long_prompt_is_planned_once() -> None:
    """161 tokens in chunks of 16: ten alike, one of the last token, and the plan of an idle instance."""
    assert both(dataclasses.replace(LONG, rows=(Row(0.0, 161, 1),))) == (3, 12)


def test_beside_decodes_a_prompt_is_planned_again_when_one_of_them_ends() -> None:
    case = dataclasses.replace(LONG, rows=(Row(0.0, 4, 6), Row(0.0, 4, 40), Row(0.2, 200, 2)))
    spans, steps = both(case)
    assert spans + 8 < steps


def test_who_comes_meanwhile_waits_in_the_steps_that_are_left() -> None:
    """A prompt alone takes ten steps; three requests come while it does, and are in the queue of the next step."""
    case = dataclasses.replace(LONG, rows=(Row(0.0, 160, 1), Row(0.21, 5, 1), Row(0.21, 5, 1), Row(0.4, 5, 1)))
    assert both(case)[0] < 5
    lane = case.engine().lanes[0]
    starts = lane.span_start_s[:10]
    assert lane.span_waiting[:10].tolist() == [sum(at <= start for at in (0.21, 0.21, 0.4)) for start in starts]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cases(policies=("sarathi",), max_requests=12), st.none() | st.floats(0.1, 3.0), st.booleans())
def test_claiming_that_chunks_repeat_changes_nothing(case: Case, until_s: float | None, longer: bool) -> None:
    """On random cases, which run short of memory, cut anywhere: every byte of the records."""
    if longer:
        case = dataclasses.replace(case, rows=tuple(dataclasses.replace(row, prompt=3 * row.prompt) for row in case.rows))
    spans, steps = both(case, until_s=until_s)
    assert spans <= steps


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cases(policies=("sarathi",), max_requests=8, varied=True))
def test_nor_where_steps_vary(case: Case) -> None:
    both(case)


def test_who_came_before_a_death_is_not_in_the_queue_twice() -> None:
    """The instance dies in the first step of a span to which fourteen requests have come, and serves again at once."""
    run = {
        "model": "llama-3-8b",
        "hardware": "a100-sxm-80gb",
        "engine": "sarathi-serve",
        "cluster": {
            "instances": [{"count": 1, "kv": {"prefix_caching": False}}],
            "failures": {"times": [{"at_s": 0.0145, "instance": 0}], "restart_s": 0.0},
        },
        "workload": {
            "arrivals": {"kind": "constant", "rate_per_s": 1000.0},
            "lengths": {"prompt": {"kind": "fixed", "tokens": 60}, "output": {"kind": "fixed", "tokens": 3}},
            "count": 15,
        },
    }
    params = Sarathi.Params(token_budget=5, max_seqs=3)
    spans, steps = (simserve.run(run, scheduler=policy(params)).records for policy in (Asked, EachStep))
    assert spans.counters["instance_failures"] == 1 and spans.lanes[0].step_end_s[0] > 0.0145
    assert spans.lanes[0].span_waiting.max() < 15
    assert spans.lanes[0].span_waiting.tolist() == steps.lanes[0].span_waiting.tolist()


CHUNKED: dict[str, Any] = {"policy": "sarathi", "token_budget": 3, "max_seqs": 4}
SMALL: dict[str, Any] = {
    "model": "llama-3-8b",
    "hardware": "h100-sxm-80gb",
    "engine": "sarathi-serve",
    "cluster": {"instances": [{"count": 1, "scheduler": CHUNKED, "kv": {"prefix_caching": False}}]},
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 20.0},
        "lengths": {"prompt": {"kind": "uniform", "low_tokens": 20, "high_tokens": 60}, "output": {"kind": "fixed", "tokens": 4}},
        "count": 12,
    },
}
POOLS = [{"count": 1, "role": role, "scheduler": CHUNKED, "kv": {"blocks": 60, "prefix_caching": False}} for role in ("prefill", "decode")]
BESIDE: dict[str, dict[str, Any]] = {
    "who comes when another has ended": {
        "engine": "vllm-2023",  # which takes requests at once
        "workload.max_concurrency": 1,
        "workload.lengths": {"prompt": {"kind": "uniform", "low_tokens": 9, "high_tokens": 90}, "output": {"kind": "fixed", "tokens": 1}},
    },
    "prefilled requests that leave": {"cluster.instances": POOLS, "cluster.network": {"bytes_per_s": 1e9, "latency_s": 0.1}},
    "deaths": {"cluster.failures": {"times": [{"at_s": 0.1 + 0.17 * number, "instance": 0} for number in range(9)], "restart_s": 0.0}},
}


@pytest.mark.parametrize("beside", BESIDE)
def test_steps_with_chunks_are_recorded_as_if_planned_one_by_one(beside: str) -> None:
    """With the memory that others took or gave back at their time, and with who waits: `--check` compares both."""
    found = simserve.run(SMALL, check=True, **BESIDE[beside]).records
    assert sum(lane.span_prefill_requests.sum() for lane in found.lanes) > 50


class Wrong(Sarathi):
    """Says that its chunks repeat, and gives every other step one token less."""

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self.odd = False

    def plan(self, view: InstanceView) -> StepPlan:
        self.odd = not self.odd
        plan = view.new_plan(budget=16 - self.odd)
        plan.decode(view.decoding)
        for request in [*view.prefilling, *view.waiting]:
            if request.is_prefilling or plan.admit(request):
                plan.prefill(request, min(request.prefill_left, plan.budget_left or 0))
                break
        return plan.hold(chunks=True)


def test_a_wrong_claim_is_found_out() -> None:
    case = dataclasses.replace(LONG, rows=(Row(0.0, 160, 3),))
    with pytest.raises(InvariantError, match="I7"):
        case.engine(Wrong(Sarathi.Params(token_budget=16)), check=True)


class OnlyBlocks(Sarathi):
    """Admits with the blocks of the first chunk and says that its chunks repeat: they do while there are blocks for them."""

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan(budget=16)
        plan.decode(view.decoding)
        for request in view.prefilling:
            tokens = min(16, request.prefill_left)
            assert plan.grow(request, request.computed_tokens + 2 * tokens)
            plan.prefill(request, tokens)
            return plan.hold(chunks=True)
        for request in view.waiting:
            assert plan.admit(request, reserve_tokens=16)
            plan.prefill(request, min(16, request.prefill_left))
            break
        return plan.hold(chunks=True)


def test_chunks_repeat_while_there_are_blocks_for_them() -> None:
    case = dataclasses.replace(LONG, rows=(Row(0.0, 160, 3),))
    specs = [case.spec(OnlyBlocks(Sarathi.Params(token_budget=16)))]
    records = simulate(case.workload(), specs)
    assert records.lanes[0].span_prefill_tokens[:10].tolist() == [16] * 10
    with pytest.raises(InvariantError, match="span_kv_blocks of the steps with prompts"):  # asked each step, it takes more each step
        simulate(case.workload(), specs, check=True)


def test_a_step_so_many_later_has_the_slices_so_many_later() -> None:
    step = Step.of([5, 9], [Slice(16, 32, row=3)])
    later = step.after(2)
    assert (later.decodes, later.context_tokens, later.longest_tokens) == (2, 18, 11)
    assert list(later.slices) == [Slice(16, 64, row=3)] and list(later.contexts()) == [7, 11]
    alone = Step(0, slices=[Slice(16, 0)]).after(3)
    assert (alone.context_tokens, alone.longest_tokens, list(alone.slices)) == (0, 0, [Slice(16, 48)])
    assert np.all(np.array(step.contexts()) == [5, 9])
