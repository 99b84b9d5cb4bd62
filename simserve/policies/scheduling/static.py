"""Request-level batching as in FasterTransformer: a batch is formed once and runs until its last request is done."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simserve.bounds import MOST_REQUESTS
from simserve.contracts import InstanceView, SchedulerParams, StepPlan
from simserve.policies.scheduling.orca import reservation_tokens


class Static:
    """The baseline before iteration-level scheduling (Orca, OSDI 2022, section 2). Requests that end early leave their place empty."""

    class Params(SchedulerParams):
        max_seqs: int = Field(8, gt=0, le=MOST_REQUESTS, description="Most requests of a batch.")
        reserve: Literal["max", "oracle"] = Field(
            "max", description="Tokens reserved per request: the longest possible, or the true length (an oracle)."
        )

    def __init__(self, params: Params) -> None:
        self.params = params
        self.oracle = params.reserve == "oracle"

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        if view.running or view.swapped:
            plan.decode(view.decoding)
            return plan.hold(ignore_arrivals=True)
        for request in view.waiting:
            if not plan.admit(request, reservation_tokens(request, self.params.reserve, view)):
                break
            plan.prefill(request, request.prefill_left)
        return plan
