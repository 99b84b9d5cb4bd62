"""XY-Serve: prefill, decode and verify tokens share one token budget, and decode and verify tokens have their place in it reserved
(arXiv 2412.18106, token-wise scheduling)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import InstanceView, SchedulerParams, StepPlan


class XyServe:
    """Three queues over one chunk of tokens: decodes (D), decodes with drafted tokens to verify (V), and prompts (P).

    D and V tokens are in every chunk, so the time between tokens is that of a chunk. Prompts take what is left, oldest first; one that is
    longer is split. Without D and V tokens the chunk is prompts alone; at low load it is short. Only tokens that the prefix cache does not
    hold are queued.

    On an instance that speculates the decoding group has both queues: members with drafts are V, those without are D. How many slots the
    paper reserves is not known to us; `reserved_tokens` keeps more than D and V need in a step.
    """

    class Params(SchedulerParams):
        token_budget: int = Field(
            4096, gt=0, le=MOST_TOKENS, description="Most tokens of a step (the chunk); decode and verify tokens count (the paper's: 4096)."
        )
        reserved_tokens: int = Field(
            0,
            ge=0,
            le=MOST_TOKENS,
            description="Tokens of the budget that prompts leave to decode and verify tokens while any request decodes, be there so many or"
            " not. 0 = as many as there are.",
        )
        max_seqs: int = Field(256, gt=0, le=MOST_REQUESTS, description="Most requests that run at once (vLLM's max_num_seqs).")

        @model_validator(mode="after")
        def _room_for_prompts(self) -> Self:
            if self.reserved_tokens >= self.token_budget:
                raise ValueError(
                    f"reserved_tokens {self.reserved_tokens} leave nothing of token_budget {self.token_budget} to prompts; reserve fewer"
                )
            return self

        def step_tokens(self, longest_tokens: int) -> int:
            """The budget."""
            return self.token_budget

    oracle = False

    def __init__(self, params: Params) -> None:
        self.params = params

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan(budget=self.params.token_budget)
        plan.decode(view.decoding)
        left = plan.budget_left
        assert left is not None
        if plan.decodes:
            left = min(left, self.params.token_budget - self.params.reserved_tokens)
        self._prompts(plan, view, left)
        return plan.hold()

    def _prompts(self, plan: StepPlan, view: InstanceView, left: int) -> None:
        """The P queue: prompts that were split go on, then newcomers in order until the first that does not fit."""
        for request in tuple(view.prefilling):
            if left <= 0:
                return
            tokens = min(request.prefill_left, left)
            plan.prefill(request, tokens)
            left -= tokens
        for request in view.waiting:
            if left <= 0 or not plan.admit(request):
                return
            tokens = min(request.prefill_left, left)
            plan.prefill(request, tokens)
            left -= tokens
