"""Questions that are answered by one number: to the cost model alone, or how much load an experiment bears."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS

Measure = Literal[
    "decode_s",
    "prefill_s",
    "prefill_sweep_s",
    "run_part_s",
    "batch_tokens_per_s",
    "requests_that_fit",
    "fits",
    "kv_bytes_per_token",
    "weight_bytes",
    "memory_bytes",
    "transfer_s",
    "capacity",
]


class ProbeSection(BaseModel):
    """One number: of the first instance's cost model, of its memory, or the load the whole experiment bears. Claims name it `probes.NAME`.

    decode_s             one step in which `requests` sequences, each with `context_tokens`, compute one token and verify
                         `drafted_tokens`; seconds
    prefill_s            one step in which `requests` prompts compute `prompt_tokens` each after `context_tokens`; seconds
    prefill_sweep_s      geometric mean of prefill_s over every prompt length from 1 to `prompt_tokens`; a ratio of two is a mean ratio
    run_part_s           seconds of `part` over all steps of the experiment's workload (`steps`: which), on all instances
    batch_tokens_per_s   output tokens per second of one static batch: prompts first, then decode steps to `output_tokens`
    requests_that_fit    requests of prompt + output tokens that fit beside weights and activations, at most the policy's max_seqs
    fits                 1 if one such request fits, else 0
    kv_bytes_per_token   of all layers, all devices together
    weight_bytes         of all devices together
    memory_bytes         weights, and the cache of `requests` sequences of `context_tokens`
    transfer_s           the KV of `prompt_tokens` copied to another instance over the cluster's network, with nothing else on it; seconds
    capacity             highest load of the workload at which `when` holds and the queue does not grow, as `simserve capacity` finds it;
                         0 if it never holds. A bisection of some ten runs for each replicate
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: Measure = Field(description="What is asked of the cost model; see this section's text in docs/paper-costs.md.")
    requests: int | None = Field(
        default=None,
        ge=1,
        le=MOST_REQUESTS,
        description="Sequences. Default: 1; for batch_tokens_per_s as many as fit (nothing when none does).",
    )
    prompt_tokens: int = Field(
        default=1, ge=1, le=MOST_TOKENS, description="Prompt tokens computed in the step, or of each request of a batch."
    )
    context_tokens: int = Field(default=0, ge=0, le=MOST_TOKENS, description="Tokens of each sequence that are in the cache already.")
    drafted_tokens: int = Field(
        default=0, ge=0, le=MOST_TOKENS, description="decode_s: drafted tokens that each sequence verifies beside the one it computes."
    )
    output_tokens: int = Field(default=1, ge=1, le=MOST_TOKENS, description="Output tokens of each request of a batch.")
    part: str | None = Field(
        default=None, description="Of steps: only this part (gemm, attention_decode, attention_prefill, host ...); run_part_s needs one."
    )
    steps: Literal["all", "mixed"] = Field(
        default="all", description="run_part_s: of which steps. `mixed`: those that compute prompt tokens and decode."
    )
    prefill_together: bool = Field(
        default=False,
        description="The whole batch's prompts are one step and need its activations. Default: steps of the policy's token budget.",
    )

    when: str | None = Field(
        default=None, description="capacity: what must hold, such as 'itl.p99 <= 0.1'. Default: 99 % of the requests meet the SLO."
    )
    report: str | None = Field(default=None, description="capacity: a figure of the run at that load instead of the load (e2e.mean ...).")
    rate_key: str | None = Field(
        default=None, description="capacity: the key that is the load. Default: the arrivals' rate, a trace's rate_scale, the clients."
    )
    per_device: bool = Field(default=False, description="capacity: divided by the devices of all instances.")
    tolerance: float = Field(default=0.05, ge=1e-6, lt=1, description="capacity: how exactly, as a fraction of it.")
    replicates: int = Field(default=1, ge=1, le=20, description="capacity: searches with consecutive seeds, whose mean is the answer.")

    @model_validator(mode="after")
    def _of_a_search(self) -> ProbeSection:
        stated = self.model_fields_set & {"when", "report", "rate_key", "per_device", "tolerance", "replicates"}
        if stated and self.measure != "capacity":
            raise ValueError(f"{sorted(stated)[0]} is for capacity, this probe measures {self.measure}")
        return self

    @model_validator(mode="after")
    def _of_a_step(self) -> ProbeSection:
        if self.drafted_tokens and self.measure != "decode_s":
            raise ValueError(f"drafted_tokens is for decode_s, this probe measures {self.measure}")
        if self.part is not None and self.measure not in ("decode_s", "prefill_s", "prefill_sweep_s", "run_part_s"):
            raise ValueError(f"part is for decode_s, prefill_s, prefill_sweep_s and run_part_s, this probe measures {self.measure}")
        if self.part is None and self.measure == "run_part_s":
            raise ValueError("run_part_s needs part: which seconds of the steps")
        if self.steps != "all" and self.measure != "run_part_s":
            raise ValueError(f"steps is for run_part_s, this probe measures {self.measure}")
        return self
