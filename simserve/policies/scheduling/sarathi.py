"""Sarathi-Serve: chunked prefill in stall-free hybrid batches (arXiv 2403.02310, section 4 and algorithm 3)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import InstanceView, Request, SchedulerParams, StepPlan

TOO_LONG = "prompt exceeds the most tokens of a step, and prompts are not cut"


class Sarathi:
    """Decodes first, then chunks of started prompts, then new prompts, within a token budget per step.

    `hybrid` and `chunked` switch off one idea each, for the paper's ablation (table 4).
    """

    class Params(SchedulerParams):
        token_budget: int = Field(
            512,
            gt=0,
            le=MOST_TOKENS,
            description="Most tokens of a step; decodes count one each (the paper's chunk size: 512 strict, 2048 relaxed).",
        )
        max_seqs: int = Field(128, gt=0, le=MOST_REQUESTS, description="Most requests that run at once.")
        hybrid: bool = Field(
            True, description="Prefill chunks ride with the decodes. False: steps of only chunks and of only decodes alternate."
        )
        chunked: bool = Field(True, description="Prompts are cut to fit the budget. False: prompts run whole, with the decodes.")
        reserve: Literal["step", "stated"] = Field(
            "step",
            description="Memory that a newcomer must find: for its step, with preemption when answers outgrow it, or for the prompt and"
            " the longest answer that its client states, which is then never preempted (TensorRT-LLM, GUARANTEED_NO_EVICT). Where a"
            " client states none, for its step.",
        )
        longer_prompts: Literal["run", "refuse"] = Field(
            "run",
            description="Where prompts are not cut, what becomes of one longer than the budget: it runs, as the only prompt of its step"
            " (the paper's ablation), or it is refused (TensorRT-LLM without chunked context).",
        )

        @model_validator(mode="after")
        def _one_ablation(self) -> Self:
            if not self.hybrid and not self.chunked:
                raise ValueError("hybrid and chunked cannot both be off: that is not an ablation of the paper (see policy vllm-v0)")
            return self

        def step_tokens(self, longest_tokens: int) -> int:
            """The budget, unless longer prompts run whole."""
            whole = not self.chunked and self.longer_prompts == "run"
            return max(self.token_budget, longest_tokens) if whole else self.token_budget

    oracle = False

    def __init__(self, params: Params) -> None:
        self.params = params
        self._chunked, self._hybrid, self._budget = params.chunked, params.hybrid, params.token_budget  # read in every step
        self._reserves = params.reserve == "stated"
        self._last_was_decode = False

    def plan(self, view: InstanceView) -> StepPlan:
        if not self._chunked:
            return self._whole_prompts(view)
        if not self._hybrid:
            return self._alternate(view)
        plan = view.new_plan(budget=self._budget)
        plan.decode(view.decoding)
        fill(plan, view, self._reserves)
        return plan.hold()

    def _whole_prompts(self, view: InstanceView) -> StepPlan:
        """Hybrid batching only: as many whole prompts as the budget takes, at least one, beside the decodes."""
        plan = view.new_plan()
        plan.decode(view.decoding)
        tokens = view.decoding.next_tokens() if plan.decodes else 0
        refuses = self.params.longer_prompts == "refuse"
        for request in view.waiting:
            if refuses and request.prompt_tokens > self.params.token_budget:
                plan.reject(request, TOO_LONG)
                continue
            if plan.slices and tokens + request.target_tokens > self.params.token_budget:
                break
            if not plan.admit(request, reserved_tokens(request, view) if self._reserves else None):
                break
            plan.prefill(request, request.prefill_left)
            tokens += request.target_tokens
        return plan.hold()

    def _alternate(self, view: InstanceView) -> StepPlan:
        """Chunked prefill only: a step of decodes, a step of chunks, and so on while there are both."""
        plan = view.new_plan(budget=self.params.token_budget)
        decodes_wait = bool(len(view.decoding) or view.swapped)
        if decodes_wait and not self._last_was_decode:
            plan.decode(view.decoding)
            if plan.decodes:
                self._last_was_decode = True
                return plan
        fill(plan, view, self._reserves)
        self._last_was_decode = False
        if not plan.slices and decodes_wait:
            plan.decode(view.decoding)
            self._last_was_decode = True
            plan.hold()
        return plan


def reserved_tokens(request: Request, view: InstanceView) -> int | None:
    """Tokens of the prompt and of the longest answer that the client states; None where it states none."""
    stated = request.max_output_tokens
    return min(view.max_model_tokens, request.prompt_tokens + stated) if stated > 0 else None


def fill(plan: StepPlan, view: InstanceView, reserves: bool = False) -> None:
    """What is left of the budget goes to the chunks already started, then to newcomers in order until the first that does not fit."""
    left = plan.budget_left
    assert left is not None
    if view.prefilling:
        for request in tuple(view.prefilling):
            if left <= 0:
                return
            chunk = request.prefill_left
            if chunk > left:
                chunk = left
            plan.prefill(request, chunk)
            left -= chunk
    if view.waiting:
        for request in view.waiting:
            if left <= 0 or not plan.admit(request, reserved_tokens(request, view) if reserves else None):
                return
            chunk = request.prefill_left
            if chunk > left:
                chunk = left
            plan.prefill(request, chunk)
            left -= chunk
