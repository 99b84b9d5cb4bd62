"""A client of the contracts: a scheduler that speculates. Its requests get tokens of a number of their own in each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from simserve.contracts import PREFILL, VERIFY, CostModel, CostWrapper, InstanceView, Scheduler, SchedulerParams, Step, StepPlan
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.errors import ConfigError, PolicyError
from simserve.report.itl import TokenGaps
from simserve.workload.requests import RequestTable, Workload
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import RoundCost


class Speculating(Scheduler):
    """Whole prompts first; then every decoding request verifies `k` drafted tokens, one in three steps none."""

    class Params(SchedulerParams):
        k: int = Field(3, ge=0, description="Tokens drafted for each request.")
        pause: int = Field(0, ge=0, description="Every so many steps the batch decodes without drafts; 0 = never.")

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.steps = 0

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        self.steps += 1
        for request in view.waiting:
            if not plan.admit(request):
                break
            plan.prefill(request, request.prefill_left)
        if plan.slices:
            return plan
        pause = self.params.pause and self.steps % self.params.pause == 0
        for request in [] if pause or not self.params.k else [*view.verifying, *view.decoding]:
            plan.verify(request, self.params.k)
        plan.decode(view.decoding)
        return plan


class Verifying(CostWrapper):
    """Prices drafted tokens as the inner model prices a prompt's."""

    def __init__(self, inner: CostModel) -> None:
        super().__init__(inner)
        self.slice_kinds = frozenset({PREFILL, VERIFY})


@dataclass(frozen=True)
class Every:
    """Accepts the first `tokens` drafted ones, whatever the request; or, with `tokens` None, a number that follows from the request and its
    place."""

    tokens: int | None = None

    def accepted(self, row: int, generated_tokens: int, drafted: int) -> int:
        return min(drafted, (7 * row + 3 * generated_tokens) % (drafted + 1) if self.tokens is None else self.tokens)


def serve(
    outputs: list[int], accept: Any, k: int = 3, kv_blocks: int = 1000, check: bool = True, pause: int = 0, **more: Any
) -> RunRecords:
    n = len(outputs)
    table = RequestTable.build(0.25 * np.arange(n, dtype=float), np.full(n, 8), np.array(outputs))
    policy = Speculating(Speculating.Params(k=k, pause=pause))
    spec = InstanceSpec("i", policy, Verifying(RoundCost()), kv_blocks=kv_blocks, block_tokens=4, acceptance=accept, **more)
    return simulate(Workload(table), [spec], check=check)


def test_a_step_gives_one_token_and_the_accepted_ones_at_once() -> None:
    records = serve([10], Every(2))
    # The prompt of 8 tokens takes 2/4 s and gives a token; each step of 4 tokens takes 1/4 s and gives 3 tokens.
    assert token_times(records) == [[0.5, 0.75, 0.75, 0.75, 1.0, 1.0, 1.0, 1.25, 1.25, 1.25]]
    assert records.requests.finish_s.tolist() == [1.25]
    assert records.lanes[0].verified.tolist() == [[1, 1, 4, 4 * 8 + 10], [2, 1, 4, 4 * 11 + 10], [3, 1, 4, 4 * 14 + 10]]
    assert records.counters["computed_tokens"] == 8 + 3 * 4


def test_the_last_step_gives_no_more_than_is_left() -> None:
    records = serve([9], Every(3))
    assert token_times(records)[0][-1] == records.requests.finish_s[0] == 1.0
    assert len(token_times(records)[0]) == records.requests.generated_tokens[0] == 9


def test_inter_token_latencies_count_tokens_of_one_step_as_zero() -> None:
    records = serve([10], Every(2))
    gaps = TokenGaps.of(records)
    values = np.concatenate([np.repeat(gap, weight) for gap, weight in gaps.weighted(np.array([True]))])
    assert sorted(values) == sorted(np.diff(token_times(records)[0]))
    assert gaps.longest_s().tolist() == [0.25]


def test_without_drafts_nothing_changes() -> None:
    plain, none = serve([5, 9, 3], Every(0), k=0), serve([5, 9, 3], None, k=0)
    assert token_times(plain) == token_times(none)
    assert not len(plain.emissions.bursts)


@settings(max_examples=60, deadline=None)
@given(
    outputs=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    k=st.integers(1, 5),
    pause=st.sampled_from([0, 2, 3]),
    kv_blocks=st.sampled_from([16, 24, 1000]),
    swap=st.booleans(),
)
def test_every_request_gets_every_token_under_memory_pressure(outputs: list[int], k: int, pause: int, kv_blocks: int, swap: bool) -> None:
    how = {"preemption": "swap", "host_kv_blocks": 30} if swap else {}
    records = serve(outputs, Every(), k=k, kv_blocks=kv_blocks, pause=pause, **how)  # checked: I1 to I10, stepped and spanned
    assert records.requests.generated_tokens.tolist() == outputs
    assert [len(times) for times in token_times(records)] == outputs
    assert all(times == sorted(times) for times in token_times(records))


def test_acceptance_does_not_depend_on_the_schedule() -> None:
    alone, crowded = serve([30], Every(), check=False), serve([30, 40, 40, 40], Every(), check=False)
    bursts = [r.emissions.bursts[r.emissions.request[r.emissions.bursts[:, 0]] == 0, 1].tolist() for r in (alone, crowded)]
    assert bursts[0] == bursts[1]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"Speculating.*verifies drafted tokens of .*does not speculate"):
        serve([5], None)
    with pytest.raises(ConfigError, match="acceptance: 4 of 3 drafted tokens of request 0"):
        serve([9], type("Much", (), {"accepted": lambda self, row, done, drafted: drafted + 1})())
    table = RequestTable.build(np.zeros(1), np.array([8]), np.array([5]))
    spec = InstanceSpec("i", Speculating(), RoundCost(), kv_blocks=100, acceptance=Every(0))
    with pytest.raises(PolicyError, match="does not speculate"):  # RoundCost prices prompts only
        simulate(Workload(table), [spec])


def test_drafts_are_not_planned_as_prompts() -> None:
    class Mistaken(Speculating):
        def plan(self, view: InstanceView) -> StepPlan:
            plan = view.new_plan()
            for request in view.waiting:
                plan.admit(request)
                plan.prefill(request, request.prefill_left, kind=VERIFY)
            return plan

    table = RequestTable.build(np.zeros(1), np.array([8]), np.array([9]))
    spec = InstanceSpec("i", Mistaken(), Verifying(RoundCost()), kv_blocks=100, acceptance=Every(1))
    with pytest.raises(PolicyError, match=r"Mistaken.*in a slice of kind 'verify': .*verify\(request, drafted\)"):
        simulate(Workload(table), [spec])


def test_a_step_of_drafts_is_one_value() -> None:
    seen: list[Step] = []

    class Watching(Verifying):
        def stage_times(self, step: Step) -> tuple[float, ...]:
            seen.append(Step(step.decodes, step.context_tokens, step.longest_tokens, tuple(step.slices)))
            return super().stage_times(step)

    table = RequestTable.build(np.zeros(1), np.array([8]), np.array([9]))
    spec = InstanceSpec("i", Speculating(), Watching(RoundCost()), kv_blocks=100, acceptance=Every(1))
    simulate(Workload(table), [spec])
    assert [[(p.new_tokens, p.context_tokens, p.kind, p.row) for p in step.slices] for step in seen] == [
        [(8, 0, PREFILL, 0)],
        *[[(4, 8 + 2 * i, VERIFY, 0)] for i in range(4)],
    ]
