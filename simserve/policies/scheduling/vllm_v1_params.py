"""Parameters of vLLM V1's scheduler, by what its server calls them where it has them (vllm/config/scheduler.py)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.contracts import SchedulerParams


class VllmV1Params(SchedulerParams):
    """Budget, slots and chunks, and the rules in which versions differ. Lines are those of vllm/v1/core/sched/scheduler.py."""

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
    overruns: Literal["unforeseen", "always"] = Field(
        "unforeseen",
        description="Asynchronous scheduling: which requests that have ended compute a token more, in the step that was planned before:"
        " those whose clients allow more tokens (0.19, line 389), or all (0.11).",
    )
    passes_over: bool = Field(
        False,
        description="With chunked: false, what becomes of a prompt that does not fit in the step: it is passed over, and those passed"
        " over change places (0.11, lines 432 and 513), or newcomers end there (0.19, line 671).",
    )
    victim_in_step: Literal["stays", "leaves", "undone"] = Field(
        "stays",
        description="Priority order: what becomes of a preempted request that has tokens in the step already. stays (0.11, lines 262 to"
        " 274): they are computed for nothing and count as computed, and the walk passes over one request; leaves (0.19, lines 475 to"
        " 506): they are taken out, and the walk ends with a request that preempts itself; undone (0.33, lines 934 to 962 and 978): it"
        " goes on behind it.",
    )
    reserve_full_prompt: bool = Field(
        False,
        description="A prompt is admitted when memory for all of it is free, though it takes the blocks of its first chunk only"
        " (scheduler_reserve_full_isl; vllm/config/scheduler.py, on since 0.19).",
    )
    threshold_alone: bool = Field(
        True,
        description="long_prefill_token_threshold also cuts the prompt of a request that no other runs or waits beside; False since"
        " 0.33 (line 757).",
    )
    adaptive_threshold: bool = Field(
        False,
        description="The threshold is at least the budget divided by the number of running and waiting requests (0.33, line 764;"
        " long_prefill_token_threshold_adaptive).",
    )
    interval_alone: bool = Field(
        True,
        description="prefill_schedule_interval holds without data parallelism too (0.33, line 439); False: it is between ranks only"
        " (0.24, line 424), which is not simulated.",
    )
    prefill_schedule_interval: int = Field(
        1,
        ge=1,
        le=10**6,
        description="Steps from one that carries prompt tokens to the next that may, while requests decode and the last one that"
        " admitted left none waiting (0.33, line 779); 1 = any step.",
    )

    max_active_seqs: int = Field(
        0, ge=0, le=MOST_REQUESTS, description="Requests that may run while others wait (max_num_active_seqs, 0.33); 0 = max_seqs."
    )

    max_queued: int = Field(
        0,
        ge=0,
        le=MOST_REQUESTS,
        description="Newcomers are refused while so many requests wait and run (max_num_queued_reqs, 0.33, v1/engine/async_llm.py line"
        " 352); 0 = never.",
    )
    max_queued_tokens: int = Field(
        0,
        ge=0,
        le=MOST_TOKENS,
        description="Newcomers are refused while the prompts of those without a first token have so many tokens (max_num_queued_tokens,"
        " line 371); 0 = never.",
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
