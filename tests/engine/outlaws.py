"""One policy per rule of the engine, breaking it. Each is a planner `(view, plan, memory)`; `memory` is a dict that exists as long as it.

Up to its crime each behaves: `serve` is a plain policy (decode, then admit in order, whole prompts).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from simserve.engine.decode_group import DecodeGroup
from simserve.engine.request import LiveRequest
from tests.engine.bad_policies import NoParams

Planner = Callable[[Any, Any, dict[str, Any]], Any]


class Outlaw:
    """A policy object around a planner; `budget` is the budget of its plans."""

    Params: ClassVar[Any] = NoParams
    oracle: ClassVar[bool] = False

    def __init__(self, planner: Planner, budget: int | None = None) -> None:
        self.planner, self.budget, self.memory = planner, budget, dict[str, Any]()

    def plan(self, view: Any) -> Any:
        return self.planner(view, view.new_plan(budget=self.budget), self.memory)


def serve(view: Any, plan: Any) -> Any:
    if len(view.decoding) or view.swapped:
        plan.decode(view.decoding)
    for r in list(view.waiting):
        if not plan.admit(r):
            break
        plan.prefill(r, r.prefill_left)
    return plan


def _head(view: Any) -> Any:
    """The first in the queue, None when none waits."""
    return next(iter(view.waiting), None)


def over_budget(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r)
    plan.prefill(r, plan.budget_left + 1)
    return plan


def over_memory(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r, 1)
    plan.prefill(r, r.prefill_left)
    return plan


def negative_reservation(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r, -100 * view.kv.block_tokens)
    plan.grow(r, r.prefill_left)
    plan.prefill(r, r.prefill_left)
    return plan


def admit_a_running_request(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = memory.setdefault("first", _head(view))
    plan.admit(r)
    return serve(view, plan)


def admit_twice(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r)
    plan.admit(r)
    return plan


def admit_a_finished_request(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    first = memory.setdefault("first", _head(view))
    if view.now > 0 and first not in list(view.decoding) and first not in view.prefilling:
        plan.admit(first)
    return serve(view, plan)


def admit_what_does_not_wait(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    plan.admit(LiveRequest(row=0, released_s=0.0, prompt_tokens=3, priority=0, max_output_tokens=-1, session=-1))
    return serve(view, plan)


def reject_what_does_not_wait(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    plan.reject(LiveRequest(row=0, released_s=0.0, prompt_tokens=3, priority=0, max_output_tokens=-1, session=-1), "who are you")
    return serve(view, plan)


def prefill_without_admission(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    plan.prefill(_head(view), 1)
    return plan


def prefill_twice(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r)
    plan.prefill(r, 1)
    plan.prefill(r, 1)
    return plan


def prefill_nothing(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r)
    plan.prefill(r, 0)
    return plan


def prefill_less_than_nothing(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r)
    plan.prefill(r, -3)
    return plan


def prefill_too_much(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r, r.prefill_left + 8)
    plan.prefill(r, r.prefill_left + 1)
    return plan


def prefill_a_fraction(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r)
    plan.prefill(r, r.prefill_left / 2)
    return plan


def prefill_a_whole_float(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r)
    plan.prefill(r, float(r.prefill_left))
    return plan


def reserve_a_fraction(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    plan.admit(_head(view), 1.5)
    return plan


def grow_by_a_fraction(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r)
    plan.grow(r, 9.5)
    return plan


def prefill_a_decoding_request(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    for r in view.decoding:
        plan.prefill(r, 1)
    return serve(view, plan)


def grow_a_decoding_request(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    for r in view.decoding:
        plan.grow(r, 1)
    return serve(view, plan)


def decode_a_group_of_its_own(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    plan.decode(DecodeGroup(view.kv.block_tokens))
    return serve(view, plan)


def decode_twice(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    serve(view, plan)
    if plan.decodes:
        plan.decode(view.decoding)
    return plan


def preempt_a_waiting_request(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    plan.preempt(_head(view))
    return plan


def preempt_after_decoding(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    serve(view, plan)
    for r in list(view.decoding):
        plan.preempt(r)
    return plan


def preempt_a_planned_prefill(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    r = _head(view)
    plan.admit(r)
    plan.prefill(r, 1)
    plan.preempt(r)
    return plan


def reject_a_running_request(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    for r in list(view.decoding):
        plan.reject(r, "changed my mind")
    return serve(view, plan)


def no_progress(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    return plan


def admit_and_do_nothing(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    for r in list(view.waiting):
        plan.admit(r)
    return plan


def stop_decoding(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    return plan if len(view.decoding) else serve(view, plan)


def return_nothing(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    serve(view, plan)


def return_something_else(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    serve(view, plan)
    return {"decode": True}


def repeat_a_prefill(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    serve(view, plan)
    plan.repeat = 5
    return plan


OUTLAWS: dict[str, tuple[Planner, int | None, str]] = {
    "over-budget": (over_budget, 2, "over budget"),
    "over-memory": (over_memory, None, "over memory"),
    "negative-reservation": (negative_reservation, None, "reserv"),
    "admits-a-running-request": (admit_a_running_request, None, "not waiting"),
    "admits-twice": (admit_twice, None, "not waiting"),
    "admits-a-finished-request": (admit_a_finished_request, None, "not waiting"),
    "admits-what-does-not-wait": (admit_what_does_not_wait, None, "not waiting"),
    "rejects-what-does-not-wait": (reject_what_does_not_wait, None, "not waiting"),
    "prefills-without-admission": (prefill_without_admission, None, "not prefilling"),
    "prefills-twice": (prefill_twice, None, "already in the step"),
    "prefills-nothing": (prefill_nothing, None, "prefills 0 tokens"),
    "prefills-less-than-nothing": (prefill_less_than_nothing, None, "prefills -3 tokens"),
    "prefills-too-much": (prefill_too_much, None, "prefills"),
    "prefills-a-fraction": (prefill_a_fraction, None, "3.5 tokens of <request 0: prefilling, 0/7 tokens>, which is no whole number"),
    "prefills-a-whole-float": (prefill_a_whole_float, None, "7.0 tokens"),
    "reserves-a-fraction": (reserve_a_fraction, None, "1.5 tokens"),
    "grows-by-a-fraction": (grow_by_a_fraction, None, "9.5 tokens"),
    "prefills-a-decoding-request": (prefill_a_decoding_request, None, "not prefilling"),
    "grows-a-decoding-request": (grow_a_decoding_request, None, "not prefilling"),
    "decodes-a-group-of-its-own": (decode_a_group_of_its_own, None, "view.decoding"),
    "decodes-twice": (decode_twice, None, "twice"),
    "preempts-a-waiting-request": (preempt_a_waiting_request, None, "not running"),
    "preempts-after-decoding": (preempt_after_decoding, None, "in the step already"),
    "preempts-a-planned-prefill": (preempt_a_planned_prefill, None, "in the step already"),
    "rejects-a-running-request": (reject_a_running_request, None, "not waiting"),
    "no-progress": (no_progress, None, "no work"),
    "admits-and-does-nothing": (admit_and_do_nothing, None, "no work"),
    "stops-decoding": (stop_decoding, None, "no work"),
    "returns-nothing": (return_nothing, None, "returned None"),
    "returns-something-else": (return_something_else, None, "returned {"),
    "repeats-a-prefill": (repeat_a_prefill, None, "repeat"),
}
"""name -> (planner, budget, words the error must contain)."""
