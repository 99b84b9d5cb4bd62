"""DistServe's schedulers (arXiv 2401.09670, section 4.3): one policy for its prefill and its decode instances."""

from __future__ import annotations

from pydantic import Field

from simserve.bounds import MOST_REQUESTS
from simserve.contracts import InstanceView, SchedulerParams, StepPlan


class DistServe:
    """Prefill: first come, first served, prompts together up to the length that saturates the devices. Decode: every request that fits.

    On a prefill instance no request decodes. KV that decode instances have not fetched yet stays in its cache and leaves less room for
    prompts: that is the back-pressure of a full decode pool. On a decode instance a request waits only if its KV was dropped: it is
    computed again there. On a mixed instance prompts go first.
    """

    class Params(SchedulerParams):
        max_num_batched_tokens: int = Field(
            8192,
            gt=0,
            description="Prompt tokens of a prefill step, the paper's L_m; a longer prompt runs alone."
            " Default: the authors' evaluation (context-max-tokens-per-batch).",
        )
        max_batch_prompts: int = Field(128, gt=0, le=MOST_REQUESTS, description="Most prompts of a prefill step (context-max-batch-size).")
        max_seqs: int = Field(1024, gt=0, le=MOST_REQUESTS, description="Most requests that run at once (decoding-max-batch-size).")

        def step_tokens(self, longest_tokens: int) -> int:
            """The budget."""
            return self.max_num_batched_tokens

    oracle = False

    def __init__(self, params: Params) -> None:
        self.params = params

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        if view.waiting and not view.swapped:
            self._prefill_step(plan, view)
            if plan.slices:
                return plan
        plan.decode(view.decoding)
        return plan.hold()

    def _prefill_step(self, plan: StepPlan, view: InstanceView) -> None:
        tokens = 0
        for request in view.waiting:
            tokens += request.target_tokens
            full = tokens > self.params.max_num_batched_tokens or len(plan.slices) == self.params.max_batch_prompts
            if (plan.slices and full) or not plan.admit(request):
                return
            plan.prefill(request, request.prefill_left)
