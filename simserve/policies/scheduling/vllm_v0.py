"""vLLM's first scheduler (PagedAttention, arXiv 2309.06180): steps are all prefill or all decode, and prefills go first."""

from __future__ import annotations

from pydantic import Field

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import SMALLEST_STEP_TOKENS, InstanceView, SchedulerParams, StepPlan
from simserve.policies.scheduling.left_of_budget import fill

CHUNKED_STEP_TOKENS = 512


class VllmV0:
    """Admits whole prompts as soon as memory and sequence slots allow, in steps without decodes; otherwise decodes all running requests."""

    class Params(SchedulerParams):
        max_num_batched_tokens: int | None = Field(
            None,
            gt=0,
            le=MOST_TOKENS,
            description="Most prompt tokens of a prefill step; longer prompts are rejected. Default: the longest sequence, at least 2048."
            " Where prompts are cut, most tokens of a step; default 512.",
        )
        max_seqs: int = Field(256, gt=0, le=MOST_REQUESTS, description="Most requests that run at once (vLLM's max_num_seqs).")
        padded: bool = Field(
            False, description="Count a prefill step as prompts x longest prompt, as vLLM did in 2023, instead of the sum."
        )
        chunked: bool = Field(
            False, description="vLLM 0.4 and 0.5 with enable_chunked_prefill: decodes first, prompts are cut to what is left of the budget."
        )

        def step_tokens(self, longest_tokens: int) -> int:
            """The budget; without one, the longest sequence, or with chunks 512 (vllm 0.4 config.py, SchedulerConfig)."""
            if self.chunked:
                return self.max_num_batched_tokens or CHUNKED_STEP_TOKENS
            return self.max_num_batched_tokens or max(SMALLEST_STEP_TOKENS, longest_tokens)

    oracle = False

    def __init__(self, params: Params) -> None:
        self.params = params
        self._chunk_budget = params.step_tokens(0) if params.chunked else None

    def plan(self, view: InstanceView) -> StepPlan:
        if self._chunk_budget:
            plan = view.new_plan(budget=self._chunk_budget)
            plan.decode(view.decoding)
            fill(plan, view)
            return plan.hold(chunks=plan.budget_left == 0)
        plan = view.new_plan()
        if view.waiting and not view.swapped:
            self._prefill_step(plan, view)
            if plan.slices:
                return plan
        plan.decode(view.decoding)
        return plan.hold()

    def _prefill_step(self, plan: StepPlan, view: InstanceView) -> None:
        limit = self.params.max_num_batched_tokens or max(SMALLEST_STEP_TOKENS, view.max_model_len or 0)
        total = longest = 0
        for request in view.waiting:
            if request.prompt_tokens > limit:
                plan.reject(request, "prompt exceeds max_num_batched_tokens")
                continue
            total += request.target_tokens
            longest = max(longest, request.target_tokens)
            size = longest * (len(plan.slices) + 1) if self.params.padded else total
            if (plan.slices and size > limit) or not plan.admit(request):
                return
            plan.prefill(request, request.prefill_left)
