"""vLLM V1's scheduler: no phases; each step gives every running request the tokens it is behind, under one budget (vllm/v1/core/sched)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import InstanceView, SchedulerParams, StepPlan


class VllmV1:
    """Running requests first, then newcomers while budget, sequence slots and memory last; KV blocks are taken chunk by chunk.

    V1 walks its running list in order of admission; here decodes come before started prompts. The two differ only when a long-prefill
    threshold leaves several prompts unfinished that together use up the budget.
    """

    class Params(SchedulerParams):
        max_num_batched_tokens: int = Field(2048, gt=0, le=MOST_TOKENS, description="Most tokens of a step.")
        max_seqs: int = Field(256, gt=0, le=MOST_REQUESTS, description="Most requests that run at once (vLLM's max_num_seqs).")
        long_prefill_token_threshold: int = Field(
            0, ge=0, le=MOST_TOKENS, description="Most prompt tokens of one request in a step; 0 = no limit."
        )
        chunked: bool = Field(
            True,
            description="Prompts are cut to what is left of the budget. False: they run whole, and a step may have as many tokens as the"
            " longest sequence, if that is more.",
        )

        @model_validator(mode="after")
        def _cut_or_not(self) -> Self:
            if self.long_prefill_token_threshold and not self.chunked:
                raise ValueError("long_prefill_token_threshold cuts prompts, which chunked: false forbids; give one of them")
            return self

        def step_tokens(self, longest_tokens: int) -> int:
            """The budget; where prompts run whole at least the longest sequence (EngineArgs raises max_num_batched_tokens to it)."""
            return self.max_num_batched_tokens if self.chunked else max(self.max_num_batched_tokens, longest_tokens)

        def refused(self, longest_tokens: int) -> str:
            """vLLM without chunked prefill does not start when a prompt may not fit in a step (vllm/config, SchedulerConfig)."""
            if self.chunked or self.max_num_batched_tokens >= longest_tokens:
                return ""
            return (
                f"max_num_batched_tokens is {self.max_num_batched_tokens:,}, less than the longest sequence of {longest_tokens:,} tokens:"
                " without chunked prefill vLLM does not start so; raise it, or lower max_model_len"
            )

    oracle = False

    def __init__(self, params: Params) -> None:
        self.params = params
        self._budget, self._chunked = params.max_num_batched_tokens, params.chunked
        self._longest_chunk = params.long_prefill_token_threshold or params.max_num_batched_tokens

    def plan(self, view: InstanceView) -> StepPlan:
        budget = self._budget if self._chunked else self.params.step_tokens(view.max_model_tokens)
        plan = view.new_plan(budget=budget)
        plan.decode(view.decoding)
        if view.prefilling:
            self._continue(plan, view)
        if view.waiting:
            self._admit(plan, view)
        return plan.hold()

    def _chunk(self, tokens: int, plan: StepPlan) -> int:
        assert plan.budget_left is not None
        if not self._chunked:  # a prompt that does not fit ends the step's admissions
            return tokens if tokens <= plan.budget_left else 0
        return min(tokens, self._longest_chunk, plan.budget_left)

    def _continue(self, plan: StepPlan, view: InstanceView) -> None:
        """Started prompts, oldest first. When memory is short the youngest of them gives up its blocks."""
        for request in tuple(view.prefilling):
            chunk = self._chunk(request.prefill_left, plan)
            if chunk <= 0:
                return
            while request.is_prefilling and not plan.grow(request, request.computed_tokens + chunk):
                plan.preempt(view.prefilling[-1])
            if not request.is_prefilling:
                return
            plan.prefill(request, chunk)

    def _admit(self, plan: StepPlan, view: InstanceView) -> None:
        for request in view.waiting:
            cached = plan.cached_tokens(request)
            chunk = self._chunk(request.target_tokens - cached, plan)
            if chunk <= 0 or not plan.admit(request, reserve_tokens=cached + chunk):
                return
            plan.prefill(request, chunk)
