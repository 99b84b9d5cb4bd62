"""Seconds of a layer's routed experts: which of the measured kernels, and how evenly tokens are spread over the experts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.cost.cold import experts_read_s
from simserve.cost.experts import coverage, fullest
from simserve.cost.four_bits import MARLIN_EXPERTS
from simserve.cost.kernels import KernelChoice
from simserve.cost.padded_experts import PADDED, padded_seconds
from simserve.hardware.profile import engine_name
from simserve.model.operators import MoE
from simserve.model.parts import FEW_EXPERTS

F64 = NDArray[np.float64]

NATURAL_SKEW = 1.01
"""The milder of the two skews that were measured: what chance and preference leave of the experts in a large step."""

_MARLIN = {"w4a16_mxfp4": ("w4a16_mxfp4", "w4a16_int4")}
"""Marlin unpacks four bits of either kind beside the same multiplications. Its mxfp4 rows are of one model with 896 experts of which a
token chooses 16, whose sorting alone takes longer than a step of few tokens over fewer experts. Devices without mxfp4 rows run it too:
Triton's kernel needs Hopper (vllm/model_executor/layers/quantization/mxfp4.py)."""

_FORMATS = {"fp8": ("fp8", "fp8_block128")}
"""Formats whose kernels can stand in for one another. With one scale a tensor or one a block the multiplications are the same; the
per-tensor rows of vLLM's and TensorRT-LLM's tables on Hopper are grouped GEMMs that take up to seven times as long as the block-scaled
ones on the same shapes (16 experts of 5120 x 8192 on two devices, 64 tokens: 1,700 and 350 us). Served models run at the pace of the
faster: Llama-4-Scout in fp8 on two H100 takes 23 ms a step."""


def expert_seconds(kernels: KernelChoice, op: MoE, tokens: F64) -> F64:
    """Seconds of one layer over `tokens` tokens of the expert-parallel group.

    With `kernels.expert_skew` given, the measurement with that skew (0 = balanced). Without, what reading and arithmetic take of the
    experts as real tokens choose them:

    A balanced benchmark deals its tokens out so that they hit as many experts as they can: 16 tokens that choose 8 of 128 read them all.
    The tokens of a real step leave many experts of a small step unread (`experts.coverage`), and such a step takes what the balanced
    benchmark took of as many experts with `expert_popularity` of the options (docs/cost-models.md), of several ranks on the one with most
    to read (`experts.fullest`). A large step reads all experts either way; its rows are spread unevenly, and the kernel takes what it took
    of rows with NATURAL_SKEW: fuller tiles of the popular experts, emptier ones of the others, and of several ranks the slowest. (A
    router's bias evens out what many texts choose, not what one prompt does; few, wide experts are even in any text.)
    """
    device = kernels.profile.device
    if kernels.options.expert_kernel == PADDED and op.dtype == "fp8_block128":
        return np.maximum(padded_seconds(kernels, op, tokens), experts_read_s(device, op, tokens))
    if kernels.expert_skew is not None:
        seconds = _measured(kernels, op, tokens, kernels.expert_skew)
        # A skewed popularity leaves more experts unread than even choice does.
        return seconds if kernels.expert_skew else np.maximum(seconds, experts_read_s(device, op, tokens, even=True))
    all_hit = op.num_experts / op.experts_per_token
    chosen = coverage(tokens, op.num_experts, op.experts_per_token, 0.0 if op.evenly_chosen else kernels.options.expert_popularity)
    hit = fullest(chosen, op.num_experts, op.expert_parallel) * all_hit
    reading = _measured(kernels, op, np.maximum(hit, 1.0), 0.0)
    skews = (0.0,) if op.num_experts <= FEW_EXPERTS else (0.0, NATURAL_SKEW)
    uneven = np.max([_measured(kernels, op, np.maximum(tokens, all_hit), skew) for skew in skews], axis=0)
    more_rows = np.where(tokens > all_hit, uneven - _measured(kernels, op, np.array([all_hit]), 0.0), 0.0)
    return np.maximum(reading + np.maximum(more_rows, 0.0), experts_read_s(device, op, tokens))


def _kernel_word(kernels: KernelChoice, op: MoE, dtype: str) -> str:
    """Part of the name of the kernel that the engine runs: the one asked for, else where an engine chooses by layout.

    vLLM on Hopper runs fp8 experts with a scale for each block in Triton's kernel where they are split, in FlashInfer's CUTLASS one where
    they are spread (vllm/model_executor/layers/fused_moe/oracle/fp8.py of 0.19; Triton in all before).
    """
    if kernels.options.expert_kernel is not None:
        return kernels.options.expert_kernel
    if dtype == "fp8_block128" and kernels.backend is not None and engine_name(kernels.backend) == "vllm":
        return "triton" if op.expert_parallel == 1 else "cutlass"
    return ""


def _measured(kernels: KernelChoice, op: MoE, tokens: F64, skew: float) -> F64:
    """By the fastest of the formats that were measured, the model's own where none was."""
    width = float(op.intermediate_size)
    if not op.gated:
        # Two matrices of a width have the weights and the arithmetic of three of two thirds of it.
        width *= 2.0 / 3.0
        kernels.assume("moe without gate: the gated kernel at two thirds of the width")
    stored = kernels.multiplied(op.dtype, "moe")
    twin = MARLIN_EXPERTS.get(stored)
    if twin is not None and kernels.measured("moe", twin) and not kernels.measured("moe", stored):
        stored = twin
    alike = _MARLIN if kernels.options.expert_kernel == "marlin" or not kernels.measured("moe", stored) else _FORMATS
    formats = [f for f in alike.get(stored, ()) if kernels.measured("moe", f)] or [stored]
    times = [
        kernels.operator("moe", dtype, preferred=_kernel_word(kernels, op, dtype)).seconds(
            num_tokens=tokens,
            hidden_size=float(op.hidden_size),
            inter_size=width,
            topk=float(op.experts_per_token),
            num_experts=float(op.num_experts),
            tensor_parallel=float(op.tensor_parallel),
            expert_parallel=float(op.expert_parallel),
            skew=skew,
        )
        for dtype in formats
    ]
    fastest: F64 = np.min(times, axis=0)
    return fastest
