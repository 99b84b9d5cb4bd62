"""How much KV cache fits: device memory, less weights, less what the largest step needs, less a reserve.

The rule is that of engines which size the cache after a profiling run (vLLM: gpu_memory_utilization x memory - weights - peak of a
run with max_num_batched_tokens): the peak is estimated here from the live tensors of the widest layer and of the logits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class KVCapacity:
    """KV cache of one instance and what leaves room for it, bytes on the fullest rank.

    tokens is blocks x block_tokens; bytes_per_token is of one rank.
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
    block_tokens: int = 16,
    max_batched_tokens: int = 2048,
    max_seqs: int = 256,
    kv_dtype_bytes: float = 2.0,
) -> KVCapacity:
    """The KV cache of one instance.

    Raises ConfigError for a utilisation outside (0, 1], ModelError when the weights, or the weights and one block, do not fit: with
    both sizes and the smallest tensor-parallel degree that would do.
    """
    if not 0.0 < memory_utilisation <= 1.0:
        raise ConfigError(f"memory_utilisation is {memory_utilisation}, it must be above 0 and at most 1")
    capacity = _capacity(model, profile, parallel, memory_utilisation, block_tokens, max_batched_tokens, max_seqs, kv_dtype_bytes)
    if capacity.blocks >= 1:
        return capacity
    fits = _smallest_tp(model, profile, parallel, memory_utilisation, block_tokens, max_batched_tokens, max_seqs, kv_dtype_bytes)
    needed = capacity.weight_bytes + capacity.activation_bytes + capacity.context_bytes
    advice = f"tp {fits} would fit" if fits else "no tensor-parallel degree up to 64 fits"
    raise ModelError(
        f"model '{model.name}' does not fit {profile.name} with tp {parallel.tp}, pp {parallel.pp}:"
        f" a rank holds {_gib(capacity.weight_bytes)} of weights and needs"
        f" {_gib(needed)} before any KV cache, and may use {_gib(capacity.usable_bytes)}"
        f" ({memory_utilisation:g} of {_gib(profile.device.hbm_bytes)}); {advice}"
    )


def _capacity(
    model: ModelArchitecture,
    profile: HardwareProfile,
    parallel: Parallel,
    memory_utilisation: float,
    block_tokens: int,
    max_batched_tokens: int,
    max_seqs: int,
    kv_dtype_bytes: float,
) -> KVCapacity:
    usable = memory_utilisation * profile.device.hbm_bytes
    weights = rank_weight_bytes(model, parallel)
    activations = activation_bytes(model, parallel, max_batched_tokens, max_seqs)
    per_token = rank_kv_bytes_per_token(model, parallel, kv_dtype_bytes)
    free = usable - weights - activations - CONTEXT_BYTES
    blocks = max(0, math.floor(free / (per_token * block_tokens)))
    return KVCapacity(blocks, block_tokens, per_token, usable, weights, activations, CONTEXT_BYTES)


def _smallest_tp(model: ModelArchitecture, profile: HardwareProfile, parallel: Parallel, *rule: float) -> int | None:
    for tp in (1, 2, 4, 8, 16, 32, 64):
        if tp <= parallel.tp:
            continue
        ep = parallel.ep * tp // parallel.tp if parallel.ep > 1 else 1
        try:
            capacity = _capacity(model, profile, Parallel(tp, parallel.pp, parallel.dp, ep), *rule)  # type: ignore[arg-type]
        except ModelError:
            continue
        if capacity.blocks >= 1:
            return tp
    return None


def _gib(value: float) -> str:
    return f"{value / 2**30:.1f} GiB"
