"""Layered prefill: prompts pass through the layers group by group, decodes through all of them in every step (arXiv 2510.08055).

Chunked prefill cuts a prompt along its tokens, and each chunk reads the experts of every layer again. Cut along the layers, a prompt
reads each layer's experts once, and a step is as short: decodes in all layers, the prompt in one group of them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import InstanceView, Request, SchedulerParams, StepPlan

_TABLE = ((512, 1), (1024, 2), (2048, 4), (4096, 8))
"""Prompt tokens up to which a wave passes through so many groups, in the authors' scheduler; larger waves through the most."""


class LayeredPrefill:
    """One wave of prompts is in flight at a time and moves on by one layer group a step; the next starts when it is through.

    A wave takes started prompts first (what a longer prompt had left over), then newcomers in order until the first that does not fit.
    """

    class Params(SchedulerParams):
        max_num_batched_tokens: int = Field(
            8192, gt=0, le=MOST_TOKENS, description="Most prompt tokens of a wave (8,192 in the paper's runs)."
        )
        max_seqs: int = Field(256, gt=0, le=MOST_REQUESTS, description="Most requests that run at once.")
        group_rule: Literal["tokens", "table"] = Field(
            "tokens",
            description="Layer groups of a wave of L tokens. tokens: L / group_tokens, rounded up (the paper). table: 1 to 512 tokens, 2 to"
            " 1,024, 4 to 2,048, 8 to 4,096 (6 where max_groups is 12), then max_groups (the authors' scheduler).",
        )
        group_tokens: int = Field(
            512, gt=0, le=MOST_TOKENS, description="Prompt tokens of a wave for each layer group (group_rule: tokens)."
        )
        max_groups: int = Field(16, gt=0, le=MOST_TOKENS, description="Most layer groups; at most the model's layers.")

        def step_tokens(self, longest_tokens: int) -> int:
            """The budget."""
            return self.max_num_batched_tokens

    oracle = False
    single_stage = True

    def __init__(self, params: Params) -> None:
        self.params = params

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        plan.decode(view.decoding)
        wave = [request for request in view.prefilling if request.layer_pass is not None]
        if wave:
            for request in wave:
                assert request.layer_pass is not None
                tokens, group, groups = request.layer_pass
                plan.prefill(request, tokens, layers=(group, groups))
        else:
            chunks = self._wave(plan, view)
            groups = self.groups(sum(tokens for _, tokens in chunks))
            for request, tokens in chunks:
                plan.prefill(request, tokens, layers=(0, groups))
        return plan.hold()

    def _wave(self, plan: StepPlan, view: InstanceView) -> list[tuple[Request, int]]:
        """Prompts of the next wave and how many tokens of each."""
        chunks = []
        left = self.params.max_num_batched_tokens
        for request in [*view.prefilling, *view.waiting]:
            if left <= 0 or not (request.is_prefilling or plan.admit(request)):
                break
            chunks.append((request, min(request.prefill_left, left)))
            left -= chunks[-1][1]
        return chunks

    def groups(self, tokens: int) -> int:
        """Layer groups that a wave of so many tokens passes through."""
        most = self.params.max_groups
        if self.params.group_rule == "tokens":
            return min(most, max(1, -(-tokens // self.params.group_tokens)))
        for up_to, groups in _TABLE:
            if tokens <= up_to:
                return min(most, 6 if (groups, most) == (8, 12) else groups)
        return most
