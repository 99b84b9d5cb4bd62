"""Chunks of running requests planned one after the other, where their order decides who gets memory and budget (vLLM V1's running list)."""

from __future__ import annotations

from simserve.contracts import PREFILL, Slice
from simserve.engine.planned import Planned
from simserve.engine.request import LiveRequest


def take_out(plan: Planned, request: LiveRequest) -> None:
    """A chunk is taken out of the plan."""
    place = plan.sliced.index(request)
    del plan.sliced[place]
    chunk = plan._made.pop(place)
    if plan.budget_left is not None:
        plan.budget_left += chunk.new_tokens
    request.planned = -1


def leave_void(plan: Planned, request: LiveRequest, computed: int) -> None:
    """A token of a request that will not decode is in the plan, and is computed for nothing."""
    plan._made.append(Slice(1, computed, None, PREFILL, request.row))
    plan.sliced.append(request)
    if plan.budget_left is not None:
        plan.budget_left -= 1
