"""Running requests planned one after the other, where their order decides who gets memory and budget: vLLM V1 walks its running list.

Where neither is short the order does not matter, and the decoding group is planned as a whole (`StepPlan.decode`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simserve.contracts import PREFILL, Slice
from simserve.engine.batch import Batch
from simserve.engine.request import LiveRequest, State

if TYPE_CHECKING:
    from simserve.engine.plan import StepPlan


def grow_member(batch: Batch, request: LiveRequest) -> bool:
    """A member of the decoding group takes the blocks of its next token before the group does; False when memory is short."""
    if request.row not in batch.grown:
        blocks = batch.group.blocks_of(request)
        if not batch.kv.take(blocks):
            return False
        batch.grown[request.row] = blocks
    return True


def take_out(plan: StepPlan, request: LiveRequest) -> None:
    """A chunk is taken out of the plan."""
    place = plan.sliced.index(request)
    del plan.sliced[place]
    chunk = plan.slices.pop(place)
    if plan.budget_left is not None:
        plan.budget_left += chunk.new_tokens
    request.planned = -1


def leave_void(plan: StepPlan, request: LiveRequest, computed: int) -> None:
    """A token of a request that will not decode is in the plan, and is computed for nothing."""
    plan.slices.append(Slice(1, computed, None, PREFILL, request.row))
    plan.sliced.append(request)
    if plan.budget_left is not None:
        plan.budget_left -= 1


def rest(batch: Batch, request: LiveRequest, serial: int) -> None:
    """A member of the decoding group sits a step out: meanwhile it is among those that verify, and computes nothing."""
    batch.leave_group(request)
    request.state = State.VERIFYING
    request.planned = serial
    batch.verifying.append(request)
    batch.resting.append(request)
