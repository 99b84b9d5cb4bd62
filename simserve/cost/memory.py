"""How much KV cache fits: device memory, less weights, less what the largest step needs, less a reserve.

Engines size the cache after loading the weights, and state its fraction of the memory in three ways (`FractionOf`). What the largest step
needs is estimated here from the live tensors of the widest layer and of the logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from simserve.errors import ConfigError, ModelError
from simserve.hardware.profile import HardwareProfile
from simserve.model.architecture import ModelArchitecture
from simserve.model.blocks import ACTIVATION_BYTES
from simserve.model.layout import layer_groups, layer_operators, rank_kv_bytes_per_token, rank_weight_bytes
from simserve.model.operators import Gemm, MoE
from simserve.model.parallel import Parallel

CONTEXT_BYTES = 600 * 2**20
"""CUDA context, communication buffers and captured graphs of one rank. An assumption: engines report 0.4 to 1 GiB."""

_LOGIT_BYTES = 10
"""Per logit during sampling: the 16-bit row, its float32 copy and the float32 probabilities."""

FractionOf = Literal["device", "device-static", "free"]
"""What an engine's memory fraction is a fraction of.

device         Of the device's memory, for weights, activations and KV cache together. vLLM, gpu_memory_utilization: KV cache = fraction x
               memory - weights - peak of a dummy run of max_num_batched_tokens (vllm/v1/worker/gpu_worker.py,
               determine_available_memory).
device-static  Of the device's memory, for weights and KV cache; activations live in the rest. SGLang, mem_fraction_static: KV cache = free
               after loading - free before loading x (1 - fraction) (sglang/srt/model_executor/model_runner.py, profile_max_num_token);
               LightLLM, mem_fraction (lightllm/common/mem_manager.py, profile_size).
free           Of what weights and the peak of a dummy run leave, for the KV cache alone. TensorRT-LLM, free_gpu_memory_fraction: KV cache =
               (memory - peak) x fraction (tensorrt_llm/_torch/pyexecutor/_util.py, KvCacheCreator).
"""


@dataclass(frozen=True, slots=True)
class KVCapacity:
    """KV cache of one instance and what leaves room for it, bytes on the fullest rank.

    blocks hold `block_tokens` tokens of all layers; tokens is blocks x block_tokens; bytes_per_token is of one rank. usable_bytes: what
    weights, activations, context and KV cache may take together.
    """

    blocks: int
    block_tokens: int
    bytes_per_token: float
    usable_bytes: float
    weight_bytes: int
    activation_bytes: int
    context_bytes: int

    @property
    def tokens(self) -> int:
        """Tokens that fit."""
        return self.blocks * self.block_tokens

    @property
    def kv_bytes(self) -> float:
        """Bytes of the KV cache on one rank."""
        return self.tokens * self.bytes_per_token

    def blocks_of(self, block_bytes: float) -> int:
        """Blocks of so many bytes that fit on one rank."""
        return math.floor((self.usable_bytes - self.weight_bytes - self.activation_bytes - self.context_bytes) / block_bytes)


class _Rule(NamedTuple):
    """How the size of the cache follows from an instance, as the arguments of `kv_capacity`."""

    memory_utilisation: float
    fraction_of: FractionOf
    block_tokens: int
    max_batched_tokens: int
    max_seqs: int
    kv_dtype_bytes: float
    draft: DraftMemory | None


class DraftMemory(NamedTuple):
    """What a draft takes on each rank: bytes of weights, and of its keys and values for every token that is cached."""

    weight_bytes: int
    bytes_per_token: float
    name: str


def activation_bytes(model: ModelArchitecture, parallel: Parallel, max_batched_tokens: int, max_seqs: int) -> int:
    """Peak bytes of live tensors on one rank in a step of `max_batched_tokens` tokens with `max_seqs` sampled rows.

    Inside a layer: residual and hidden state, plus the input and output of its widest matrix multiplication (for experts, of all
    routed copies of the tokens). At the end: the logits of the sampled rows. The larger of the two.
    """
    widest = 0
    for stage in range(parallel.pp):
        for layer, _ in layer_groups(model, parallel, stage):
            for op in layer_operators(model, parallel, layer):
                if isinstance(op, Gemm):
                    widest = max(widest, op.n + op.k)
                elif isinstance(op, MoE):
                    copies = op.experts_per_token * parallel.dp / op.expert_parallel
                    widest = max(widest, math.ceil(copies * (2 * op.intermediate_size // op.tensor_parallel + op.hidden_size)))
    layer_bytes = max_batched_tokens * (2 * model.hidden_size + widest) * ACTIVATION_BYTES
    logit_bytes = max_seqs * model.vocab_size * _LOGIT_BYTES
    return max(layer_bytes, logit_bytes)


def kv_capacity(
    model: ModelArchitecture,
    profile: HardwareProfile,
    parallel: Parallel,
    *,
    memory_utilisation: float = 0.9,
    fraction_of: FractionOf = "device",
    block_tokens: int = 16,
    max_batched_tokens: int = 2048,
    max_seqs: int = 256,
    kv_dtype_bytes: float = 2.0,
    draft: DraftMemory | None = None,
) -> KVCapacity:
    """The KV cache of one instance whose largest step has `max_batched_tokens` tokens and samples `max_seqs` rows, beside a draft
    if it has one.

    Raises ConfigError for a utilisation outside (0, 1], ModelError when the weights, or the weights and one block, do not fit (with
    both sizes and the smallest tensor-parallel degree that would do), or when a static fraction leaves too little for the largest step.
    """
    if not 0.0 < memory_utilisation <= 1.0:
        raise ConfigError(f"memory_utilisation is {memory_utilisation}, it must be above 0 and at most 1")
    rule = _Rule(memory_utilisation, fraction_of, block_tokens, max_batched_tokens, max_seqs, kv_dtype_bytes, draft)
    capacity = _capacity(model, profile, parallel, rule)
    if capacity.blocks < 1:
        raise ModelError(_too_small(model, profile, parallel, rule, capacity))
    if capacity.usable_bytes > profile.device.hbm_bytes:
        raise ModelError(_too_little_beside(model, profile, parallel, rule, capacity))
    return capacity


def _capacity(model: ModelArchitecture, profile: HardwareProfile, parallel: Parallel, rule: _Rule) -> KVCapacity:
    memory, fraction = profile.device.hbm_bytes, rule.memory_utilisation
    weights = rank_weight_bytes(model, parallel)
    activations = activation_bytes(model, parallel, rule.max_batched_tokens, rule.max_seqs)
    per_token = rank_kv_bytes_per_token(model, parallel, rule.kv_dtype_bytes)
    if not per_token:
        raise ModelError(f"model '{model.name}' has no attention layers: its memory is not a KV cache, and it cannot be served here")
    if rule.draft is not None:
        weights, per_token = weights + rule.draft.weight_bytes, per_token + rule.draft.bytes_per_token
    before_kv = weights + activations + CONTEXT_BYTES
    if rule.fraction_of == "device":
        usable = fraction * memory
    elif rule.fraction_of == "device-static":
        usable = fraction * (memory - CONTEXT_BYTES) + activations + CONTEXT_BYTES
    else:
        usable = before_kv + fraction * (memory - before_kv)
    blocks = max(0, math.floor((usable - before_kv) / (per_token * rule.block_tokens)))
    return KVCapacity(blocks, rule.block_tokens, per_token, usable, weights, activations, CONTEXT_BYTES)


def _too_small(model: ModelArchitecture, profile: HardwareProfile, parallel: Parallel, rule: _Rule, capacity: KVCapacity) -> str:
    fits = _smallest_tp(model, profile, parallel, rule)
    memory = profile.device.hbm_bytes
    needed = capacity.weight_bytes + capacity.activation_bytes + capacity.context_bytes
    if rule.fraction_of == "free":
        allowed = f"{_gib(max(0.0, memory - needed))} of {_gib(memory)} are left, of which the cache gets {rule.memory_utilisation:g}"
    elif rule.fraction_of == "device-static":
        needed = capacity.weight_bytes
        allowed = f"weights and KV cache may use {_gib(rule.memory_utilisation * memory)} ({rule.memory_utilisation:g} of {_gib(memory)})"
    else:
        allowed = f"may use {_gib(capacity.usable_bytes)} ({rule.memory_utilisation:g} of {_gib(memory)})"
    beside, tp = "", f"tp {fits} would fit" if fits else "no tensor-parallel degree up to 64 fits"
    if rule.draft is not None:
        beside = f" beside its draft '{rule.draft.name}' ({_gib(rule.draft.weight_bytes)} of weights on a rank)"
        tp = "a higher tensor-parallel degree, which shares out the draft too, or a smaller draft may fit"
    return (
        f"model '{model.name}' does not fit {profile.name} with tp {parallel.tp}, pp {parallel.pp}{beside}:"
        f" a rank holds {_gib(capacity.weight_bytes)} of weights and needs {_gib(needed)} before any KV cache, and {allowed};"
        f" {tp}"
    )


def _too_little_beside(model: ModelArchitecture, profile: HardwareProfile, parallel: Parallel, rule: _Rule, capacity: KVCapacity) -> str:
    memory = profile.device.hbm_bytes - CONTEXT_BYTES
    most = math.floor(1000 * (1.0 - capacity.activation_bytes / memory)) / 1000
    return (
        f"model '{model.name}' on {profile.name} with tp {parallel.tp}, pp {parallel.pp}: weights and KV cache take"
        f" {rule.memory_utilisation:g} of the memory and leave {_gib((1.0 - rule.memory_utilisation) * memory)}, but a step of"
        f" {rule.max_batched_tokens:,} tokens needs {_gib(capacity.activation_bytes)} of activations: the engine would run out of memory;"
        + (f" a fraction of {most:g} at most, or smaller steps, would do" if most > 0 else " smaller steps would do")
    )


def _smallest_tp(model: ModelArchitecture, profile: HardwareProfile, parallel: Parallel, rule: _Rule) -> int | None:
    for tp in (1, 2, 4, 8, 16, 32, 64):
        if tp <= parallel.tp:
            continue
        ep = parallel.ep * tp // parallel.tp if parallel.ep > 1 else 1
        try:
            capacity = _capacity(model, profile, Parallel(tp, parallel.pp, parallel.dp, ep), rule)
        except ModelError:
            continue
        if capacity.blocks >= 1:
            return tp
    return None


def _gib(value: float) -> str:
    return f"{value / 2**30:.1f} GiB"
