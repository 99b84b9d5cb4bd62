"""Experts in DeepGEMM's contiguous kernel as vLLM 0.11.1 to 0.12 ran it on Hopper: every padded row is multiplied.

The kernel wants each expert's rows padded to whole tiles of 128. Without asking the device how many rows each expert got, room for the
worst case is made: the routed rows and 127 more for each expert held. Rows of that room that no expert wrote kept the id of an expert, and
were multiplied like any other, until version 0.13 marked them as to be skipped (vllm pull request 30494). Small steps came that way too
since scales are powers of two on Hopper by default (26197), but for tensor parallelism of 8, which went to Triton from 0.12 on (29346).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.cost.kernels import KernelChoice
from simserve.model.operators import MoE

F64 = NDArray[np.float64]

PADDED = "deepgemm-padded"
"""The value of `CostOptions.expert_kernel` that asks for it."""

TILE_ROWS = 128
_ACTIVATION_BYTES = 5.0
"""Of an element between the two multiplications: gate and up are read in 16 bits, and their product is written in 8."""

_AROUND_KERNELS = 6
"""Counting, scattering, two of quantising, gathering, the activation."""


def padded_rows(op: MoE, tokens: F64) -> F64:
    """Rows that the kernel multiplies on a rank for `tokens` tokens of the expert-parallel group."""
    held = -(-op.num_experts // op.expert_parallel)
    rows: F64 = np.ceil((tokens * op.experts_per_token + held * (TILE_ROWS - 1)) / TILE_ROWS) * TILE_ROWS
    return rows


def padded_seconds(kernels: KernelChoice, op: MoE, tokens: F64) -> F64:
    """Seconds of one layer's experts: two multiplications over all rows by the dense kernel's measurements, and the activation."""
    rows, width, hidden = padded_rows(op, tokens), float(op.intermediate_size // op.tensor_parallel), float(op.hidden_size)
    up = kernels.gemm_seconds(op.dtype, rows, np.full_like(rows, 2.0 * width), np.full_like(rows, hidden))
    down = kernels.gemm_seconds(op.dtype, rows, np.full_like(rows, hidden), np.full_like(rows, width))
    device = kernels.profile.device
    kernels.assume("padded experts: two matrices at the pace of the dense DeepGEMM kernel")
    return up + down + rows * width * _ACTIVATION_BYTES / device.hbm_bytes_per_s + _AROUND_KERNELS * device.launch_s
