"""Parameters of Sarathi-Serve's scheduler."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import SchedulerParams


class SarathiParams(SchedulerParams):
    """What a step may hold, and the ideas that an ablation switches off."""

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
