"""A policy, cost model or load source that answers with nonsense, or writes what it is given, is named at once: nothing wrong is silent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from simserve.contracts import CostWrapper, InstanceView, Loading, Scheduler, Slice, Step, StepPlan
from simserve.engine import InstanceSpec, simulate
from simserve.errors import ConfigError, PolicyError
from tests.engine.cluster_world import spec, work
from tests.engine.seam_world import Drafting, Seams
from tests.reference.toy_cost import RoundCost


class Says(CostWrapper):
    """A cost model with answers of its own."""

    def __init__(self, step: Any = None, decode: Any = None, swap: Any = None, stages: int = 1) -> None:
        super().__init__(RoundCost())
        self._step, self._decode, self._swap, self._stages = step, decode, swap, stages

    @property
    def stages(self) -> int:
        return self._stages

    def stage_times(self, step: Step) -> Any:
        whole = self.inner.step_time(step)
        return (whole,) * self._stages if self._step is None else self._step(step, whole)

    def decode_times(self, step: Step, steps: int) -> Any:
        return super().decode_times(step, steps) if self._decode is None else self._decode(steps)

    def swap_time(self, tokens: int) -> Any:
        return 0.25 if self._swap is None else self._swap


def serve(cost: Any = None, check: bool = False, **more: Any) -> Any:
    return simulate(work([0.0, 0.1, 0.2], [9, 17, 5], [20, 16, 30]), [spec("i", cost=cost, **more)], check=check)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 0.0])
@pytest.mark.parametrize("from_tokens", [0, 40])
def test_what_is_no_time_is_refused_with_the_name_of_the_cost_model(seconds: float, from_tokens: int) -> None:
    with pytest.raises(PolicyError, match=r"cost model 'Says' says that .* must be finite and above 0"):
        serve(Says(lambda step, whole: (seconds if step.context_tokens >= from_tokens else whole,)))


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_a_swap_takes_time(seconds: float) -> None:
    with pytest.raises(PolicyError, match=r"cost model 'Says' says that a swap of .* tokens takes"):
        serve(Says(swap=seconds), kv_blocks=14, preemption="swap", host_kv_blocks=50)


@pytest.mark.parametrize(
    "times",
    [lambda n: [0.25] * (n - 1), lambda n: [0.25] * (n + 3), lambda n: np.full(n + 1, 0.25)],
)
def test_a_span_has_as_many_times_as_steps(times: Callable[[int], Any]) -> None:
    with pytest.raises(PolicyError, match=r"cost model 'Says' gives .* times for .* steps"):
        serve(Says(decode=times))


def test_times_of_another_type_are_the_same_numbers() -> None:
    exact = serve(Says()).requests.finish_s.tolist()
    assert serve(Says(decode=lambda n: np.full(n, 0.25, np.float32))).requests.finish_s.tolist() == exact
    assert serve(Says(lambda step, whole: (np.array(whole),))).requests.finish_s.tolist() == exact
    ones = Says(lambda step, whole: (1.0,), decode=lambda n: np.full(n, 1))
    assert serve(ones).requests.finish_s.tolist() == serve(Says(lambda step, whole: (1.0,))).requests.finish_s.tolist()


@pytest.mark.parametrize("times", [(0.25,), (0.25,) * 3, (0.25, math.nan), (0.25, -0.1), (0.0, 0.0)])
def test_every_pipeline_stage_has_a_time(times: tuple[float, ...]) -> None:
    with pytest.raises(PolicyError, match=r"cost model 'Says' .*(stage times for 2 pipeline stages|must be finite and above 0)"):
        serve(Says(lambda step, whole: times, stages=2))


WRITES: list[Callable[[Any], Any]] = [
    lambda step: setattr(step, "slices", []),
    lambda step: step.slices.clear(),
    lambda step: step.slices.append(Slice(5, 0)),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_cost_model_that_writes_slices_ends_the_run(write: Callable[[Any], Any]) -> None:
    def step(step: Step, whole: float) -> tuple[float, ...]:
        write(step)
        return (whole,)

    with pytest.raises(PolicyError, match=r"has written the slices of a step"):
        serve(Says(step))


@pytest.mark.parametrize("name", ["decodes", "context_tokens", "slices"])
def test_a_cost_model_that_writes_a_step_is_named_under_check(name: str) -> None:
    def step(step: Step, whole: float) -> tuple[float, ...]:
        setattr(step, name, 0)
        return (whole,)

    with pytest.raises(PolicyError, match=rf"cost model 'Says' sets plan.{name}.*I10"):
        serve(Says(step), check=True)


class Loads:
    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer

    def load(self, request: Any, now: float) -> Any:
        return self.answer(request)


@pytest.mark.parametrize(
    "answer",
    [(0.5, 4), 0.5, "x", True, *(Loading(s) for s in (math.nan, -1.0, math.inf)), Loading("1"), Loading(1j)]  # type: ignore[arg-type]
    + [Loading(0.5, tokens) for tokens in (-3, 2.5, math.nan, "3", None)],  # type: ignore[arg-type]
)
def test_what_is_no_load_is_refused_with_the_name_of_its_source(answer: Any) -> None:
    with pytest.raises(ConfigError, match=r"loads: .*'Loads'"):
        serve(loads=(Loads(lambda request: answer),))


def test_numbers_of_numpy_are_numbers() -> None:
    plain = serve(loads=(Loads(lambda request: Loading(0.5, 3)),))
    numpy = serve(loads=(Loads(lambda request: Loading(np.float64(0.5), np.int64(3))),))  # type: ignore[arg-type]
    assert numpy.requests.finish_s.tolist() == plain.requests.finish_s.tolist()


def test_a_load_source_that_writes_its_request_is_named_under_check() -> None:
    with pytest.raises(PolicyError, match=r"load source 'Loads' sets request.priority"):
        serve(loads=(Loads(lambda request: setattr(request, "priority", 5)),), check=True)


@pytest.mark.parametrize("said", [2.0, 1.5, math.nan, "1", None, -1, 99, np.float64(1.5)])
def test_what_is_no_number_of_accepted_tokens_is_refused(said: Any) -> None:
    accepts = type("Mine", (), {"accepted": lambda self, row, done, drafted: said})()
    policy = Drafting(Drafting.Params(k=3, drafts=3))
    with pytest.raises(ConfigError, match=r"acceptance: .* of 3 drafted tokens of request 0 .*'Mine'"):
        simulate(work([0.0], [8], [9]), [InstanceSpec("i", policy, Seams(RoundCost()), 100, block_tokens=4, acceptance=accepts)])


class Does(Scheduler):
    """Whole prompts, then all requests decodes, and then what it is told; `budget` as it is told, too."""

    hears_ends = True

    def __init__(self, does: Callable[[Any], Any] = lambda plan: None, budget: Any = None, hears: Callable[[Any], Any] = tuple) -> None:
        super().__init__()
        self.does, self.budget, self.hears = does, budget, hears

    def ended(self, requests: Any, now: float) -> None:
        self.hears(requests)

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan(self.budget)
        for request in view.waiting:
            if not plan.admit(request):
                break
            plan.prefill(request, request.prefill_left)
        if not plan.slices:
            plan.decode(view.decoding)
            self.does(plan)
        return plan


@pytest.mark.parametrize(
    "does",
    [lambda plan, how=how: plan.hold(**how) for how in (
        *({"steps": steps} for steps in (2.5, 2.0, "3", math.nan, math.inf, 1j)), *({"until_s": s} for s in ("9", math.nan, 1j, -1.0)),
    )],
)  # fmt: skip
def test_a_plan_holds_for_a_whole_number_of_steps_and_until_a_time(does: Callable[[Any], Any]) -> None:
    with pytest.raises(PolicyError, match=r"policy 'Does' holds its plan (for|until) .*I10"):
        simulate(work([0.0], [8], [9]), [InstanceSpec("i", Does(does), RoundCost(), 100)])


@pytest.mark.parametrize("budget", [64.0, math.nan, math.inf, "64", 1j])
def test_a_budget_is_a_whole_number(budget: Any) -> None:
    with pytest.raises(PolicyError, match=r"policy 'Does' states a budget of .* which is no whole number"):
        simulate(work([0.0], [8], [9]), [InstanceSpec("i", Does(budget=budget), RoundCost(), 100)])


def test_who_hears_of_ends_cannot_change_who_has_ended() -> None:
    with pytest.raises(AttributeError, match=r"tuple.*clear"):
        simulate(work([0.0], [8], [9]), [InstanceSpec("i", Does(hears=lambda requests: requests.clear()), RoundCost(), 100)])
    with pytest.raises(PolicyError, match=r"policy 'Does' sets request.row"):
        hears = Does(hears=lambda requests: setattr(requests[0], "row", 3))
        simulate(work([0.0], [8], [9]), [InstanceSpec("i", hears, RoundCost(), 100)], check=True)
