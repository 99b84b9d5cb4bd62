"""SGLang's scheduler: prompts first in batches of their own, cut to the chunked prefill size; decodes run when no prompt can."""

from __future__ import annotations

import math

from pydantic import Field, field_validator

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import InstanceView, SchedulerParams, StepPlan


class Sglang:
    """A prefill batch goes before decodes (sglang/srt/managers/scheduler.py, get_next_batch_to_run) and takes prompts in order while its
    tokens last (schedule_policy.py, PrefillAdder). Memory for the whole prompt is taken at admission.

    The chunks of a long prompt follow each other without decodes between them, newcomers fill the last one.
    """

    class Params(SchedulerParams):
        chunked_prefill_size: int = Field(
            8192, ge=-1, le=MOST_TOKENS, description="Most prompt tokens of a step; prompts are cut to it. -1 = off: prompts run whole."
        )
        max_prefill_tokens: int = Field(
            16384, gt=0, le=MOST_TOKENS, description="Most prompt tokens of a step of several prompts; the first prompt may be longer."
        )
        max_seqs: int = Field(1024, gt=0, le=MOST_REQUESTS, description="Most requests that run at once (SGLang's max_running_requests).")

        @field_validator("chunked_prefill_size")
        @classmethod
        def _some_or_off(cls, value: int) -> int:
            if value == 0:
                raise ValueError("found 0, expected a number of tokens, or -1 for prompts that run whole")
            return value

        def step_tokens(self, longest_tokens: int) -> int:
            """The chunk; with chunks off, the longest prompt."""
            return self.chunked_prefill_size if self.chunked_prefill_size > 0 else max(self.max_prefill_tokens, longest_tokens)

    oracle = False

    def __init__(self, params: Params) -> None:
        self.params = params

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        if view.prefilling or view.waiting:
            self._prefill_step(plan, view)
            if plan.slices:
                return plan
        plan.decode(view.decoding)
        return plan.hold()

    def _prefill_step(self, plan: StepPlan, view: InstanceView) -> None:
        chunk: float = self.params.chunked_prefill_size if self.params.chunked_prefill_size > 0 else math.inf
        batch = self.params.max_prefill_tokens
        for request in tuple(view.prefilling):
            tokens = int(min(request.prefill_left, chunk))
            if tokens <= 0:
                return
            plan.prefill(request, tokens)
            chunk, batch = chunk - tokens, batch - tokens
        for request in view.waiting:
            if chunk <= 0 or batch <= 0:
                return
            if plan.slices and request.target_tokens - plan.cached_tokens(request) >= batch:
                return
            if not plan.admit(request):
                return
            tokens = int(min(request.prefill_left, chunk))
            plan.prefill(request, tokens)
            chunk, batch = chunk - tokens, batch - tokens
