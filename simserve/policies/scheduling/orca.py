"""Orca: iteration-level scheduling with whole prompts (OSDI 2022); memory is reserved for the longest output."""

from __future__ import annotations

from typing import Literal, cast

from pydantic import Field

from simserve.bounds import MOST_REQUESTS
from simserve.contracts import InstanceView, OracleRequest, Request, SchedulerParams, StepPlan


def reservation_tokens(request: Request, reserve: str, view: InstanceView) -> int:
    """Tokens to reserve so that the request never needs more.

    "oracle": prompt and true output. "max": prompt and the limit its client stated (if that covers what is generated), else the longest
    sequence allowed (arXiv 2309.06180, section 6.1: Orca (Oracle) and Orca (Max)).
    """
    if reserve == "oracle":
        return request.prompt_tokens + cast("OracleRequest", request).output_tokens
    if request.max_output_tokens > 0:
        return min(view.max_model_tokens, request.prompt_tokens + request.max_output_tokens)
    return view.max_model_tokens


class Orca:
    """Every step decodes all running requests and takes in whole prompts that fit; no request is ever preempted."""

    class Params(SchedulerParams):
        max_seqs: int = Field(
            16, gt=0, le=MOST_REQUESTS, description="Most requests that run at once (16 in the Sarathi-Serve comparison)."
        )
        reserve: Literal["max", "oracle"] = Field(
            "max", description="Tokens reserved per request: the longest possible, or the true length (an oracle)."
        )

    def __init__(self, params: Params) -> None:
        self.params = params
        self.oracle = params.reserve == "oracle"

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        plan.decode(view.decoding)
        for request in view.waiting:
            if not plan.admit(request, reservation_tokens(request, self.params.reserve, view)):
                break
            plan.prefill(request, request.prefill_left)
        return plan.hold()
