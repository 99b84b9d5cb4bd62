"""What an engine's scheduler is asked in a comparison: requests, and the settings that its rules depend on, in words of no engine."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

STEP_S = 0.01
"""Seconds of every step where a workload states nothing else: what matters is the order of things, and 10 ms are exact to print."""


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """What is set on the engine. Every default means "off", or so much that it never binds; None: what the version does by itself.

    max_num_seqs            requests that run at once (SGLang: max_running_requests)
    max_num_batched_tokens  tokens of a step (vLLM)
    max_model_len           tokens of a sequence, prompt and answer
    block_tokens            tokens of a KV block (SGLang: page_size)
    kv_blocks               blocks that hold KV; vLLM's null block is not among them (SGLang: max_total_num_tokens / page_size)
    prefix_caching          whether prompts are looked up among what the KV cache holds
    chunked                 whether prompts are cut to what is left of the budget
    order                   fcfs or priority; SGLang also has lpm, lof, dfs-weight, random, hrrn
    async_scheduling        the plan of a step is made before the step before it has ended
    pipeline_stages         stages, each with a batch of its own in flight
    long_prefill_token_threshold  tokens of one prompt in a step, 0 = no limit; `adaptive_threshold` scales it with load
    max_active_seqs         requests that may run while others wait, 0 = as many as max_num_seqs (vLLM's max_num_active_seqs)
    watermark               part of the blocks that an admission must leave free
    reserve_full_prompt     an admission needs blocks for the whole prompt (vLLM's scheduler_reserve_full_isl)
    prefill_schedule_interval  steps from one admission of prompts to the next, 1 = every step
    max_queued              waiting requests from which on newcomers are refused, 0 = no limit; `max_queued_tokens` likewise
    speculation_tokens      tokens drafted for a verify step, 0 = no speculation; `speculation_method` as the engine names it
    kv_windows              by KV cache group (layers of equal number) its attention window in tokens, 0 = full attention; () = one full
    chunked_prefill_size, max_prefill_tokens, schedule_conservativeness, mixed_chunk, prefill_max_requests
                            SGLang's, 0 or 1.0 or False = as its server starts
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192
    block_tokens: int = 16
    kv_blocks: int = 10_000
    prefix_caching: bool = False
    chunked: bool = True
    order: str = "fcfs"
    async_scheduling: bool = False
    pipeline_stages: int = 1
    long_prefill_token_threshold: int = 0
    adaptive_threshold: bool = False
    max_active_seqs: int = 0
    watermark: float = 0.0
    reserve_full_prompt: bool | None = None
    prefill_schedule_interval: int = 1
    max_queued: int = 0
    max_queued_tokens: int = 0
    speculation_tokens: int = 0
    speculation_method: str = "ngram"
    kv_windows: tuple[int, ...] = ()
    chunked_prefill_size: int = 0
    max_prefill_tokens: int = 0
    schedule_conservativeness: float = 1.0
    mixed_chunk: bool = False
    prefill_max_requests: int = 0

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def stated(self) -> dict[str, Any]:
        """What differs from the defaults, by name: all that a file needs to say."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}


@dataclass(frozen=True, slots=True)
class ScheduleRequest:
    """One request.

    arrival_s      seconds from the beginning; it is seen by a plan that is made at that time or later
    output_tokens  tokens that it generates before it ends of its own accord
    max_tokens     most that its client allows, which the scheduler may know; None = output_tokens
    priority       vLLM's sense: smaller goes first
    prefix_ids     ids of the blocks (of `block_tokens` tokens) that the prompt begins with: contents are equal where ids are. The rest of
                   the prompt, and the answer, are its own
    abort_s        when its client gives up; None = never
    accepted       how many drafted tokens a verify step accepts, by the number of output tokens before it (more than were drafted mean all;
                   past the end none): so that what is accepted does not depend on when. None = it has no drafts
    """

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    max_tokens: int | None = None
    priority: int = 0
    prefix_ids: tuple[int, ...] = ()
    abort_s: float | None = None
    accepted: tuple[int, ...] | None = None

    @property
    def most_output_tokens(self) -> int:
        """What the scheduler may be told of the length of the answer."""
        return self.output_tokens if self.max_tokens is None else self.max_tokens


@dataclass(frozen=True, slots=True)
class ScheduleWorkload:
    """Requests in order of arrival, and the settings. `step_s` seconds pass from the start of a step to its end, whatever it computes.

    The clock that both sides keep. Time starts at 0, and a step that starts at t ends at t + step_s as doubles add up. An engine that is
    idle starts a step when the next request arrives; one that is not when it can: when the step before has ended, with pipeline stages
    when the first stage is free, which takes step_s / stages. With asynchronous scheduling the plan of a step is made when the step before
    it starts. A request that has arrived by the time of a plan is seen by it. Tokens appear, and requests end, at the end of their step. A
    request aborted at or before a plan is gone before it.
    """

    kind: str
    seed: int
    settings: ScheduleSettings
    requests: tuple[ScheduleRequest, ...]
    step_s: float = STEP_S

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"


Outcome = Literal["finished", "aborted", "refused", "unfinished"]
"""How a request ended: `refused` before it ran, `unfinished` when the engine had nothing more to do and had not served it."""
