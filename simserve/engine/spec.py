"""What the engine needs to know of an instance."""

from __future__ import annotations

from dataclasses import dataclass

from simserve.cost.contract import CostModel
from simserve.errors import ConfigError, nearest
from simserve.policies.contract import Scheduler

ROLES = ("mixed", "prefill", "decode")


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """How KV leaves an instance for another one.

    bytes_per_s         one way, shared by the copies in flight
    latency_s           before the first byte
    per_message_s       for every further message of a copy
    message_bytes       bytes of one message; None = a copy is one contiguous message
    kv_bytes_per_token  KV of one token of the model, all layers and ranks together
    """

    bytes_per_s: float
    latency_s: float
    kv_bytes_per_token: float
    per_message_s: float = 0.0
    message_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One model replica.

    role              "mixed" serves whole requests; "prefill" hands them over after their first token; "decode" takes them over
    link              how KV leaves it; needed by a prefill instance

    scheduler         the policy object (one per instance: policies may keep state)
    cost              seconds of its steps
    kv_blocks         KV blocks of `block_tokens` tokens each, all ranks together holding one copy
    max_seqs          most requests that run at once (per micro-batch with pipeline parallelism)
    watermark_blocks  free blocks an admission must leave
    max_model_len     longest prompt + output in tokens; None = as far as the KV cache reaches
    devices           accelerators it occupies
    preemption        "recompute" forgets a victim's KV, "swap" copies it to `host_kv_blocks` blocks of host memory while there is room
    prefix_caching    keep the KV of prompts and reuse it for equal prefixes (needs a workload that tells prompts' contents)
    request_s, request_per_prompt_token_s  time between a request's release and the scheduler's seeing it (HTTP, tokenising), seconds;
                      the devices do not wait for it
    order             waiting order: see simserve.policies.registry.order_names()
    """

    name: str
    scheduler: Scheduler
    cost: CostModel
    kv_blocks: int
    block_tokens: int = 16
    max_seqs: int = 128
    watermark_blocks: int = 0
    max_model_len: int | None = None
    devices: int = 1
    preemption: str = "recompute"
    host_kv_blocks: int = 0
    order: str = "fcfs"
    prefix_caching: bool = False
    request_s: float = 0.0
    request_per_prompt_token_s: float = 0.0
    policy: str = ""
    role: str = "mixed"
    link: LinkSpec | None = None

    def __post_init__(self) -> None:
        for name in ("kv_blocks", "block_tokens", "max_seqs", "devices"):
            if getattr(self, name) < 1:
                raise ConfigError(f"instance '{self.name}': {name} must be at least 1, found {getattr(self, name)}")
        if not 0 <= self.watermark_blocks < self.kv_blocks:
            raise ConfigError(f"instance '{self.name}': watermark_blocks must be in [0, kv_blocks), found {self.watermark_blocks}")
        if self.preemption not in ("recompute", "swap"):
            raise ConfigError(f"instance '{self.name}': preemption must be 'recompute' or 'swap', found '{self.preemption}'")

        if self.role not in ROLES:
            raise ConfigError(f"instance '{self.name}': unknown role '{self.role}'{nearest(self.role, ROLES)}")
        if self.role == "prefill" and self.link is None:
            raise ConfigError(f"instance '{self.name}': a prefill instance needs a link to hand its requests over")

    @property
    def policy_name(self) -> str:
        """The name used in messages and results."""
        return self.policy or type(self.scheduler).__name__

    @property
    def limit_tokens(self) -> int:
        """Longest prompt + output a request may reach: the model's length or what the KV cache above the watermark holds."""
        fits = (self.kv_blocks - self.watermark_blocks) * self.block_tokens
        return fits if self.max_model_len is None else min(self.max_model_len, fits)
