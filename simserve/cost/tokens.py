"""The part of a step that depends only on how many tokens it has: one table for all layers of a stage, and one for the output head."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from simserve.cost.cold import gemm_read_s
from simserve.cost.cores.linear import linear_seconds, tile_rows
from simserve.cost.expert_layer import expert_seconds
from simserve.cost.grid import token_knots
from simserve.cost.kernels import KernelChoice
from simserve.cost.monotone import non_decreasing
from simserve.errors import ModelError
from simserve.model.operators import (
    MLA,
    AllGather,
    AllReduce,
    Elementwise,
    ExpertExchange,
    Gemm,
    LinearAttentionCore,
    MoE,
    Operator,
)

F64 = NDArray[np.float64]
Counted = tuple[Operator, int]

_AROUND_RECURRENCE = 3
"""Kernels of a linear-attention layer besides its recurrence, norm and large projections."""

_DECODING, _CHUNK = 256.0, 64.0
"""Tokens of a step that decode at most, and tokens that the chunked kernel of linear attention takes at a time (fla's default)."""

_LAUNCHES = {"Attention": 2, "MLA": 2, "MoE": 10, "LinearAttentionCore": 1 + _AROUND_RECURRENCE}
"""Kernels of an operator. Attention: the KV write and the kernel. Experts: top-k, three of sorting, expand, quantise, two grouped GEMMs,
activation, weighted sum."""

_BESIDE, _BESIDE_TOKENS = "shared_", 256.0
"""Shared experts (operators whose names begin so) run beside the routed ones in steps of few tokens: on a second stream (vLLM up to 256
tokens, TensorRT-LLM) or as one more expert of the same kernel (SGLang). They then cost the reading of their weights, no kernels of
their own."""

_SAME_KERNEL = {
    "final_layernorm": "input_layernorm",
    "post_attention_layernorm": "input_layernorm",
    "emb_layernorm": "input_layernorm",
    "shared_act": "mlp_act",
}


class TokenTable:
    """Seconds by part for token counts 1 .. n, extended when a larger step is asked for.

    Tokens are those of the instance: of its `replicas` (data-parallel attention) each runs an equal part, except where experts are
    shared by all. The operators' times are added up per part at the knots of `token_knots`, levelled to be non-decreasing, and
    interpolated.
    """

    def __init__(self, kernels: KernelChoice, operators: Iterable[Counted], first_limit: int, replicas: int = 1) -> None:
        self._kernels = kernels
        self._replicas = replicas
        self._operators = tuple(operators)
        self._first_limit = first_limit
        self._limit = 0
        self.seconds: list[float] = [0.0]
        """Total seconds by token count; entry 0 is 0."""
        self.parts: dict[str, F64] = {}
        """The same by part."""
        self.extend(first_limit)

    def extend(self, tokens: int) -> None:
        """Make sure that `seconds[tokens]` exists. The table grows in fixed steps, so that no answer depends on what was asked before."""
        while tokens > self._limit:
            self._grow(self._limit * 4 or self._first_limit)

    def _grow(self, limit: int) -> None:
        knots = token_knots(limit)
        knots = knots[knots > self._limit]
        every = np.arange(self._limit + 1, limit + 1)
        for part, at_knots in _seconds_by_part(self._kernels, self._operators, knots.astype(np.float64), self._replicas).items():
            old = self.parts.get(part, np.zeros(1))
            new = np.interp(every, knots, non_decreasing(at_knots))
            self.parts[part] = np.concatenate([old, np.maximum(new, old[-1])])
        # Each part is non-decreasing; the running maximum takes out what rounding adds.
        self.seconds = np.maximum.accumulate(sum(self.parts.values(), np.zeros(limit + 1))).tolist()
        self._limit = limit

    def __getitem__(self, tokens: int) -> float:
        if tokens > self._limit:
            self.extend(tokens)
        return self.seconds[tokens]


def kernel_count(operators: Iterable[Counted]) -> int:
    """Kernels that the host launches for these operators outside CUDA graphs: one each, but for those of `_LAUNCHES`."""
    return sum(count * _LAUNCHES.get(type(op).__name__, 1) for op, count in operators)


def _seconds_by_part(kernels: KernelChoice, operators: tuple[Counted, ...], instance_tokens: F64, replicas: int) -> dict[str, F64]:
    parts: dict[str, F64] = {}
    tokens = np.ceil(instance_tokens / replicas)

    def put(part: str, seconds: F64) -> None:
        parts[part] = parts.get(part, np.zeros(len(tokens))) + seconds

    for part, matrices in _gemms(operators).items():
        for dtype in sorted({dtype for _, _, dtype, _ in matrices}):
            shapes = sorted({(n, k) for n, k, d, _ in matrices if d == dtype})
            n, k = (np.repeat([float(s[i]) for s in shapes], len(tokens)) for i in (0, 1))
            rows_of_tiles = tile_rows(kernels, (op for op, _ in operators), dtype, n, k)
            times = linear_seconds(kernels, dtype, np.tile(tokens, len(shapes)), n, k, rows_of_tiles)
            reading = gemm_read_s(kernels.profile.device, n, k, dtype)
            times = np.maximum(times, reading)
            if part == _BESIDE:
                times = np.where(np.tile(tokens, len(shapes)) <= _BESIDE_TOKENS, reading, times)
            times = times.reshape(len(shapes), -1)
            for rows, columns, kind, count in matrices:
                if kind == dtype:
                    put("gemm" if part == _BESIDE else part, count * times[shapes.index((rows, columns))])
    known: dict[Operator, F64] = {}  # the same operator in layers that differ elsewhere
    for op, count in operators:
        if not isinstance(op, Gemm | MLA):
            if op not in known:
                known[op] = _operator_seconds(kernels, op, tokens, instance_tokens)
            put(_part(op), count * known[op])
    return parts


def _part(op: Operator) -> str:
    if isinstance(op, Elementwise):
        return "sampler" if op.name == "sampler" else "elementwise"
    kinds = {AllReduce: "collective", AllGather: "collective", MoE: "moe", ExpertExchange: "expert_exchange"}
    return kinds.get(type(op), "linear_attention")


def _operator_seconds(kernels: KernelChoice, op: Operator, tokens: F64, instance_tokens: F64) -> F64:
    """Seconds of one operator that is no plain matrix multiplication. Raises ModelError for one without a kernel model."""
    if isinstance(op, Elementwise):
        return _elementwise(kernels, op, tokens)
    if isinstance(op, AllReduce | AllGather):
        name = "all_reduce" if isinstance(op, AllReduce) else "all_gather"
        return kernels.communication(name, op.group, tokens * op.bytes_per_token, "bf16")
    if isinstance(op, MoE):
        return expert_seconds(kernels, op, instance_tokens)
    if isinstance(op, ExpertExchange):
        return kernels.exchange(op, tokens)
    if isinstance(op, LinearAttentionCore):
        return _linear_attention(kernels, op, tokens)
    raise ModelError(f"the cost model has no kernel for '{op.name}' ({type(op).__name__})")


def _gemms(operators: tuple[Counted, ...]) -> dict[str, list[tuple[int, int, str, int]]]:
    """(n, k, dtype, count) of every matrix multiplication over the step's tokens, by part.

    MLA's up-projection of keys and values is one of them: absorbed decode reads the same weights in two batched multiplications.
    """
    out: dict[str, list[tuple[int, int, str, int]]] = {}
    for op, count in operators:
        if isinstance(op, Gemm):
            part = "lm_head" if op.name == "lm_head" else _BESIDE if op.name.startswith(_BESIDE) else "gemm"
            out.setdefault(part, []).append((op.n, op.k, op.dtype, count))
        elif isinstance(op, MLA):
            n = op.q_heads * (op.qk_nope_head_dim + op.v_head_dim)
            out.setdefault("gemm", []).append((n, op.kv_lora_rank, op.gemm_dtype, count))
    return out


def _elementwise(kernels: KernelChoice, op: Elementwise, tokens: F64) -> F64:
    kernel = op.name if kernels.measured("elementwise", "bf16", op.name) else _SAME_KERNEL.get(op.name, op.name)
    model = kernels.operator("elementwise", "bf16", kernel=kernel)
    return model.seconds(num_tokens=tokens, width=float(op.width), bytes_per_token=float(op.bytes_per_token))


def _linear_attention(kernels: KernelChoice, op: LinearAttentionCore, tokens: F64) -> F64:
    """Every token reads and writes its heads' state once: exact for decode, an upper estimate for chunked prefill kernels. Around the
    recurrence run the split of the projection, the convolution and the decay's multiplication, kernels of their own.

    Where the profile states an efficiency, tokens beyond `_DECODING` are taken to be of prompts, whose chunked kernel reads the state once
    every `_CHUNK` tokens (Gated DeltaNet, arXiv 2412.06464), and their own vectors.
    """
    heads = op.value_heads * op.value_head_dim
    model = kernels.operator("elementwise", "bf16", kernel="linear_attention")
    per_token = float(2 * op.state_bytes_per_sequence)
    if model.efficiency is not None:
        prompts = np.maximum(tokens - _DECODING, 0.0)
        vectors = 2.0 * 2.0 * (2 * op.key_heads * op.key_head_dim + 2 * heads)
        moved = (tokens - prompts) * per_token + prompts * (per_token / _CHUNK + vectors)
        seconds = model.seconds(num_tokens=tokens, width=float(heads), bytes_per_token=moved / np.maximum(tokens, 1.0))
        return seconds + _AROUND_RECURRENCE * model.efficiency.floor_s
    seconds = model.seconds(num_tokens=tokens, width=float(heads), bytes_per_token=per_token)
    return seconds + _AROUND_RECURRENCE * kernels.profile.device.launch_s
