"""Sarathi-Serve: chunked prefill in stall-free hybrid batches (arXiv 2403.02310, section 4 and algorithm 3)."""

from __future__ import annotations

from simserve.contracts import InstanceView, StepPlan
from simserve.policies.scheduling.left_of_budget import fill, reserved_tokens
from simserve.policies.scheduling.sarathi_params import SarathiParams

TOO_LONG = "prompt exceeds the most tokens of a step, and prompts are not cut"


class Sarathi:
    """Decodes first, then chunks of started prompts, then new prompts, within a token budget per step.

    `hybrid` and `chunked` switch off one idea each, for the paper's ablation (table 4).
    """

    Params = SarathiParams

    oracle = False

    def __init__(self, params: SarathiParams) -> None:
        self.params = params
        self._chunked, self._plain, self._budget = params.chunked, params.chunked and params.hybrid, params.token_budget
        self._reserves = params.reserve == "stated"
        self._last_was_decode = False

    @property
    def asked_each_step(self) -> bool:
        """Without hybrid batches: whose turn it is, prompts' or decodes', is of all micro-batches together."""
        return self._chunked and not self._plain

    def plan(self, view: InstanceView) -> StepPlan:
        if not self._plain:
            return self._alternate(view) if self._chunked else self._whole_prompts(view)
        plan = view.new_plan(self._budget)
        plan.decode(view.decoding)
        fill(plan, view, self._reserves)
        return plan.hold(chunks=plan.budget_left == 0)  # then the next step is the same, until a prompt is at its end

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
