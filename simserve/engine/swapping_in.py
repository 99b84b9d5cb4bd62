"""Requests whose KV is on the host come back, and decode at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simserve.engine.batch import Batch
from simserve.engine.view import InstanceView

if TYPE_CHECKING:
    from simserve.engine.plan import StepPlan


def swap_in(plan: StepPlan, batch: Batch, view: InstanceView) -> None:
    """Brings swapped requests back, longest admitted first, while memory above the watermark and slots allow. They decode at once."""
    if batch.speculating is not None:
        batch.speculating.took()
    while batch.swapped:
        request = min(batch.swapped, key=lambda r: r.admission)
        if view.free_slots <= 0 or not batch.swap_in(request):
            break
        batch.swapped.remove(request)
        plan.swap_times_s.append(batch.swap_time(request.computed_tokens))
        batch.join_group(request)
        plan.decodes += 1
    if batch.speculating is not None:  # what they leave of the budget to the others may need fewer blocks
        batch.speculating.deal(plan.budget_left)
        batch.kv.give_back(-batch.speculating.blocks_needed())
