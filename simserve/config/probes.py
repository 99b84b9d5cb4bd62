"""Questions to the cost model alone: an experiment with probes simulates no requests."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Measure = Literal[
    "decode_s", "prefill_s", "batch_tokens_per_s", "requests_that_fit", "fits", "kv_bytes_per_token", "weight_bytes", "memory_bytes"
]


class ProbeSection(BaseModel):
    """One number of the first instance's cost model or of its memory. Claims name it `probes.NAME`.

    decode_s             one step in which `requests` sequences, each with `context_tokens`, compute one token; seconds
    prefill_s            one step in which `requests` prompts compute `prompt_tokens` each after `context_tokens`; seconds
    batch_tokens_per_s   output tokens per second of one static batch: prompts first, then decode steps to `output_tokens`
    requests_that_fit    requests of prompt + output tokens that fit beside weights and activations, at most the policy's max_seqs
    fits                 1 if one such request fits, else 0
    kv_bytes_per_token   of all layers, all devices together
    weight_bytes         of all devices together
    memory_bytes         weights, and the cache of `requests` sequences of `context_tokens`
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: Measure = Field(description="What is asked of the cost model; see this section's text in docs/paper-costs.md.")
    requests: int | None = Field(
        default=None, ge=1, description="Sequences. Default: 1; for batch_tokens_per_s as many as fit (nothing when none does)."
    )
    prompt_tokens: int = Field(default=1, ge=1, description="Prompt tokens computed in the step, or of each request of a batch.")
    context_tokens: int = Field(default=0, ge=0, description="Tokens of each sequence that are in the cache already.")
    output_tokens: int = Field(default=1, ge=1, description="Output tokens of each request of a batch.")
    part: str | None = Field(
        default=None, description="decode_s and prefill_s: only this part (gemm, attention_decode, attention_prefill, host ...)."
    )
    prefill_together: bool = Field(
        default=False,
        description="The whole batch's prompts are one step and need its activations. Default: steps of the policy's token"
        " budget.",
    )

    @model_validator(mode="after")
    def _of_a_step(self) -> ProbeSection:
        if self.part is not None and self.measure not in ("decode_s", "prefill_s"):
            raise ValueError(f"part is for decode_s and prefill_s, this probe measures {self.measure}")
        return self
