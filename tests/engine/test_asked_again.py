"""Policies that wait for a time or for ends of requests need not poll."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from simserve.contracts import ClusterControl, ClusterView, Controller, InstanceView, Request, Router, Scheduler, StepPlan
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.engine.spec import ClusterSpec, Failures
from simserve.errors import PolicyError
from simserve.workload.requests import RequestTable, Workload
from tests.engine.cluster_world import spec, work
from tests.reference.toy_cost import RoundCost


class Batching(Scheduler):
    """Waits until 2 s after the first of a batch has come, then runs the batch to its end."""

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.opens_s = -1.0
        self.plans = 0

    def plan(self, view: InstanceView) -> StepPlan:
        self.plans += 1
        plan = view.new_plan()
        if view.running:
            plan.decode(view.decoding)
            return plan.hold()
        if not len(view.waiting):
            return plan
        if self.opens_s < 0:
            self.opens_s = view.now + 2.0
        if view.now < self.opens_s:
            return plan.hold(until_s=self.opens_s)
        self.opens_s = -1.0
        for request in view.waiting:
            if not plan.admit(request):
                break
            plan.prefill(request, request.prefill_left)
        return plan


class Looking(Batching):
    """Decodes on, and wants to look at the clock every second: counts how late it is asked."""

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.next_s, self.asked_s = 0.0, list[float]()

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        for request in view.waiting:
            plan.admit(request)
            plan.prefill(request, request.prefill_left)
        if plan.slices:
            return plan
        plan.decode(view.decoding)
        if view.now >= self.next_s:
            self.asked_s.append(view.now)
            self.next_s = float(np.floor(view.now)) + 1.0
        return plan.hold(until_s=self.next_s)


def serve(policy: Any, arrivals: list[float], outputs: list[int], check: bool = True, cluster: ClusterSpec | None = None) -> RunRecords:
    n = len(arrivals)
    table = RequestTable.build(np.array(arrivals), np.full(n, 8), np.array(outputs))
    return simulate(Workload(table), [InstanceSpec("i", policy, RoundCost(), kv_blocks=100, block_tokens=4)], cluster, check=check)


def test_a_policy_that_plans_nothing_is_asked_at_its_time() -> None:
    records = serve(Batching(), [1.0, 2.5, 9.0], [2, 2, 2])
    assert records.requests.scheduled_s.tolist() == [3.0, 3.0, 11.0]


def test_it_is_asked_once_and_at_arrivals() -> None:
    policy = Batching()
    serve(policy, [1.0, 2.5], [1, 1], check=False)
    assert policy.plans == 4  # at 1.0, at the arrival, at 3.0, and when the batch has ended


def test_a_span_ends_with_the_step_in_which_the_time_comes() -> None:
    policy = Looking()
    records = serve(policy, [0.1], [40], check=False)
    ends = records.lanes[0].step_end_s
    assert len(policy.asked_s) >= 9
    for asked in policy.asked_s[1:]:
        assert asked == ends[np.searchsorted(ends, np.floor(asked - 1e-9))] or asked in ends
        assert asked - np.floor(asked) < 0.25  # the step in which the second came is the last before it is asked
    assert max(records.lanes[0].span_steps) > 1
    stepped = simulate(
        Workload(records.table), [InstanceSpec("i", Looking(), RoundCost(), kv_blocks=100, block_tokens=4)], fast_forward=False
    )
    assert np.array_equal(stepped.lanes[0].step_end_s, ends)


@pytest.mark.parametrize("until_s", [1.0, 0.5, float("nan"), float("inf")])
def test_a_time_that_is_not_to_come_is_refused(until_s: float) -> None:
    class Past(Scheduler):
        def plan(self, view: InstanceView) -> StepPlan:
            return view.new_plan().hold(until_s=until_s)

    with pytest.raises(PolicyError, match=r"Past.*is not after 1\.0 s.*I10"):
        serve(Past(), [1.0], [1])


def test_a_policy_that_postpones_for_ever_is_stopped() -> None:
    class Tomorrow(Scheduler):
        def plan(self, view: InstanceView) -> StepPlan:
            return view.new_plan().hold(until_s=view.now + 1.0)

    with pytest.raises(PolicyError, match=r"Tomorrow.*planned nothing 1000 times in a row.*I5"):
        serve(Tomorrow(), [1.0], [1])


class Ears:
    """What a policy has heard."""

    hears_ends = True

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, float]] = []


class Listening(Ears, Batching):
    def __init__(self) -> None:
        Ears.__init__(self)
        Batching.__init__(self)

    def ended(self, requests: Sequence[Request], now: float) -> None:
        self.heard += [(request.row, request.generated_tokens, now) for request in requests]


class ListeningRouter(Ears, Router):
    def choose(self, request: Request, view: ClusterView) -> int:
        return 0

    def ended(self, requests: Sequence[Request], instance: int, now: float) -> None:
        self.heard += [(request.row, instance, now) for request in requests]


class ListeningController(Ears, Controller):
    interval_s = 100.0

    def act(self, cluster: ClusterControl) -> None:
        return

    ended = ListeningRouter.ended


def test_policies_hear_of_ends_when_they_happen() -> None:
    policy, router, controller = Listening(), ListeningRouter(), ListeningController()
    records = serve(policy, [0.0, 0.0], [3, 5], check=False, cluster=ClusterSpec(router=router, controllers=(controller,)))
    finish = records.requests.finish_s.tolist()
    assert policy.heard == [(0, 3, finish[0]), (1, 5, finish[1])]
    assert router.heard == controller.heard == [(0, 0, finish[0]), (1, 0, finish[1])]


@pytest.mark.parametrize("rule", ["fail", "retry", "resume"])
def test_a_request_ends_once_however_often_its_instance_dies(rule: str) -> None:
    class Counting(ListeningRouter):
        def choose(self, request: Request, view: ClusterView) -> int:
            return view.open[-1]

    router = Counting()
    deaths = Failures(times=((1.0, 1), (3.0, 0)), restart_s=0.5, rule=rule)
    load = work([0.0, 0.1, 2.6, 2.7], [8] * 4, [20] * 4, patience_s=np.array([np.nan, 1.0, np.nan, np.nan]))
    simulate(load, [spec("a"), spec("b")], ClusterSpec(router=router, failures=deaths), check=False)
    assert sorted(row for row, _, _ in router.heard) == [0, 1, 2, 3]


def test_who_does_not_ask_for_it_hears_nothing() -> None:
    policy = Listening()
    policy.hears_ends = False
    serve(policy, [0.0], [3], check=False)
    assert policy.heard == []
