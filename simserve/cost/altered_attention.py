"""Decode attention that reads or attends less than the model's own, from the kernel that reads 16-bit keys and values of all tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.cost.kernels import KernelChoice
from simserve.model.operators import Attention

F64 = NDArray[np.float64]

_RECOMPUTE_PEAK_FRACTION = 0.83
"""Fraction of the tensor-core peak at which keys and values are made again: that of a large matrix multiplication (docs/cost-models.md)."""


def altered_decode_seconds(kernels: KernelChoice, layer: Attention, batch: F64, context: F64) -> F64:
    """Seconds of one layer under `kernels.options`.

    Decode attention is bound by what it reads, so it takes as long as the 16-bit kernel over as many bytes; not less than its arithmetic
    on tensor cores (or on scalar cores where the options say so), and not less than making keys and values again from a cached input.
    """
    options, device = kernels.options, kernels.profile.device
    model = kernels.operator("attention_decode", layer.dtype, kv_dtype=layer.dtype)
    attended, read = options.decode_tokens(layer, context)
    reading = model.seconds(
        batch=batch,
        kv_tokens=np.maximum(read, 1.0),
        num_q_heads=float(layer.q_heads),
        num_kv_heads=float(layer.kv_heads),
        head_dim=float(layer.head_dim),
    )
    flops = 4.0 * batch * attended * layer.q_heads * layer.head_dim
    rate = device.peak(layer.dtype)
    if options.attention_scalar_fraction is not None:
        rate = options.attention_scalar_fraction * device.peak_flops_per_s.get("fp32", device.peak(layer.dtype))
    again = batch * attended * options.recompute_flops(layer) / (_RECOMPUTE_PEAK_FRACTION * device.peak(layer.dtype))
    seconds: F64 = np.maximum(np.maximum(reading / options.attention_efficiency, flops / rate), again)
    kernels.assume("attention_decode under the model's options: the 16-bit kernel at as many bytes")
    return seconds
