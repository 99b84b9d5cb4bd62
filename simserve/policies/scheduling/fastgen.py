"""DeepSpeed-FastGen's Dynamic SplitFuse (arXiv 2401.08671, section 4): every forward pass has the same number of tokens."""

from __future__ import annotations

from pydantic import Field

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import InstanceView, SchedulerParams, StepPlan


class FastGen:
    """Decodes ride; prompts are split and composed until the pass is exactly full. KV blocks are taken as the tokens are computed,
    so a chunk may also shrink to the memory that is left."""

    class Params(SchedulerParams):
        token_budget: int = Field(
            768, gt=0, le=MOST_TOKENS, description="Tokens of a forward pass (the public engine's ragged batch size)."
        )
        max_seqs: int = Field(512, gt=0, le=MOST_REQUESTS, description="Most requests that run at once.")

        def step_tokens(self, longest_tokens: int) -> int:
            """The budget."""
            return self.token_budget

    oracle = False

    def __init__(self, params: Params) -> None:
        self.params = params

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan(budget=self.params.token_budget)
        plan.decode(view.decoding)
        fits = self._continue(plan, view)
        while not plan.decodes and not plan.slices and view.prefilling:  # all are stuck half-way: the youngest starts over
            plan.preempt(view.prefilling[-1])
            fits = self._continue(plan, view)
        if fits:
            self._compose(plan, view)
        return plan.hold()

    def _continue(self, plan: StepPlan, view: InstanceView) -> bool:
        """Split prompts go on, oldest first. False when memory stopped one."""
        kv = view.kv
        for request in tuple(view.prefilling):
            assert plan.budget_left is not None
            if plan.budget_left <= 0:
                return True
            room = request.held_blocks * kv.block_tokens + kv.free_tokens - request.computed_tokens
            chunk = min(request.prefill_left, plan.budget_left, room)
            if chunk <= 0:
                return False
            plan.grow(request, request.computed_tokens + chunk)
            plan.prefill(request, chunk)
        return True

    def _compose(self, plan: StepPlan, view: InstanceView) -> None:
        """Newcomers fill the rest of the pass."""
        for request in view.waiting:
            assert plan.budget_left is not None
            cached = plan.cached_tokens(request)
            chunk = min(request.target_tokens - cached, plan.budget_left, view.kv.free_tokens)
            if chunk <= 0 or not plan.admit(request, reserve_tokens=cached + chunk):
                return
            plan.prefill(request, chunk)
