"""Seconds of a layer's routed experts: which of the measured kernels, and how evenly tokens are spread over the experts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.cost.cold import experts_read_s
from simserve.cost.four_bits import MARLIN_EXPERTS
from simserve.cost.kernels import KernelChoice
from simserve.model.operators import MoE

F64 = NDArray[np.float64]

NATURAL_SKEW = 1.01
"""The milder of the two skews that were measured: what chance and preference leave of the experts in a small step."""

_FORMATS = {"fp8": ("fp8", "fp8_block128")}
"""Formats whose kernels can stand in for one another. With one scale a tensor or one a block the multiplications are the same; the
per-tensor rows of vLLM's and TensorRT-LLM's tables on Hopper are grouped GEMMs that take up to seven times as long as the block-scaled
ones on the same shapes (16 experts of 5120 x 8192 on two devices, 64 tokens: 1,700 and 350 us). Served models run at the pace of the
faster: Llama-4-Scout in fp8 on two H100 takes 23 ms a step."""


def expert_seconds(kernels: KernelChoice, op: MoE, tokens: F64) -> F64:
    """Seconds of one layer over `tokens` tokens of the expert-parallel group.

    With `kernels.expert_skew` given, the measurement with that skew (0 = balanced). Without, the faster of the balanced one and
    NATURAL_SKEW's. A balanced benchmark deals its tokens out so that they hit as many experts as they can: 32 tokens that choose 4 of
    128 read them all. The tokens of a real step choose for themselves and leave many experts of a small step unread, which is what the
    skewed rows show. A large step reads all experts either way; there the skewed rows' hottest expert is more than routers trained to
    spread their load make of it.
    """
    if kernels.expert_skew is not None:
        seconds = _measured(kernels, op, tokens, kernels.expert_skew)
        # A skewed popularity leaves more experts unread than even choice does.
        return seconds if kernels.expert_skew else np.maximum(seconds, experts_read_s(kernels.profile.device, op, tokens, even=True))
    seconds = np.minimum(*(_measured(kernels, op, tokens, skew) for skew in (0.0, NATURAL_SKEW)))
    return np.maximum(seconds, experts_read_s(kernels.profile.device, op, tokens))


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
    formats = [f for f in _FORMATS.get(stored, ()) if kernels.measured("moe", f)] or [stored]
    times = [
        kernels.operator("moe", dtype).seconds(
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
