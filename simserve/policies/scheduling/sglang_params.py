"""Parameters of SGLang's scheduler, by what its server calls them (sglang/srt/server_args.py)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import SchedulerParams


class SglangParams(SchedulerParams):
    """What admission, chunks and retraction follow."""

    chunked_prefill_size: int = Field(
        8192, ge=-1, le=MOST_TOKENS, description="Most prompt tokens of a step; prompts are cut to it. -1 = off: prompts run whole."
    )
    max_prefill_tokens: int = Field(
        16384, gt=0, le=MOST_TOKENS, description="Most prompt tokens of a step of several prompts; the first prompt may be longer."
    )
    max_seqs: int = Field(1024, gt=0, le=MOST_REQUESTS, description="Most requests that run at once (SGLang's max_running_requests).")
    schedule_conservativeness: float = Field(
        1.0, ge=0, le=100, description="Scales the part of its longest output that a request is first expected to generate, 0.7."
    )
    mixed_chunk: bool = Field(False, description="Decodes ride in prefill batches (--enable-mixed-chunk).")
    prefill_max_requests: int = Field(0, ge=0, le=MOST_REQUESTS, description="Most prompts of a step; 0 = no limit.")
    priority_preemption_threshold: int = Field(
        -1,
        ge=-1,
        le=1_000_000,
        description="With the order `priority`: a request takes the slot of one whose priority is lower by more than this"
        " (--priority-scheduling-preemption-threshold, 10); -1 = never.",
    )
    clip_max_new_tokens: int = Field(
        4096,
        gt=0,
        le=MOST_TOKENS,
        description="Most tokens that a request is expected to generate (SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION).",
    )
    rules: Literal["0.5.1", "0.5.6", "0.5.14", "0.5.23"] = Field(
        "0.5.23",
        description="Version since which admission and retraction have these rules (policies/scheduling/sglang_adder.py).",
    )

    @field_validator("chunked_prefill_size")
    @classmethod
    def _some_or_off(cls, value: int) -> int:
        if value == 0:
            raise ValueError("found 0, expected a number of tokens, or -1 for prompts that run whole")
        return value

    @model_validator(mode="after")
    def _mixed_chunks(self) -> Self:
        if self.mixed_chunk and self.chunked_prefill_size < 0:
            raise ValueError("mixed_chunk fills chunks with decodes, and chunked_prefill_size -1 has none; give one of them")
        return self

    def step_tokens(self, longest_tokens: int) -> int:
        """The chunk; with chunks off, the longest prompt."""
        return self.chunked_prefill_size if self.chunked_prefill_size > 0 else max(self.max_prefill_tokens, longest_tokens)
