"""What a step must read from device memory, however warm the caches of a benchmark were.

A kernel benchmark runs one kernel again and again, and what it reads may lie in the L2 cache by then. In a step every layer reads
other weights and another layer's KV, gigabytes in all, so that a layer finds nothing of its own in the cache. Frontier's rows of H800
are an example: decode attention over 64k tokens of KV took 63 us where its 268 MB take 80 us from HBM.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simserve.cost.experts import ZIPF_EXPONENT, coverage
from simserve.hardware.device import DTYPE_BYTES, Device
from simserve.model.operators import MLA, Attention, MoE

F64 = NDArray[np.float64]


def gemm_read_s(device: Device, n: F64, k: F64, dtype: str) -> F64:
    """Seconds to read the weights (n, k) of a matrix multiplication once."""
    read: F64 = n * k * DTYPE_BYTES[dtype] / device.hbm_bytes_per_s
    return read


def experts_read_s(device: Device, op: MoE, tokens: F64, *, even: bool = False) -> F64:
    """Seconds to read the experts that `tokens` tokens of the group choose, on the mean rank.

    even  tokens choose evenly and independently and hit E (1 - (1 - k/E)^tokens) of E experts, instead of preferring some (`coverage`)
    """
    exponent = 0.0 if even or op.evenly_chosen else ZIPF_EXPONENT
    fraction = coverage(tokens, op.num_experts, op.experts_per_token, exponent)
    read: F64 = fraction * op.weight_bytes / device.hbm_bytes_per_s
    return read


def decode_read_s(device: Device, layer: Attention | MLA, batch: F64, tokens: F64) -> F64:
    """Seconds to read `tokens` cached tokens of each of `batch` sequences: keys and values, or latents."""
    elements = layer.kv_lora_rank + layer.qk_rope_head_dim if isinstance(layer, MLA) else 2 * layer.kv_heads * layer.head_dim
    read: F64 = batch * tokens * elements * DTYPE_BYTES[layer.dtype] / device.hbm_bytes_per_s
    return read
