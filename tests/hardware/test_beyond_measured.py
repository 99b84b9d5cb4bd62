"""Outside what was measured, times follow the work: the analytic estimate at the nearest measured efficiency, never a constant."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.hardware import load_profile
from simserve.hardware.kernel_model import KernelModel

LARGER = np.array([1.0, 2.0, 4.0, 8.0])
"""Factors on a size that is already beyond the largest one measured."""

BEYOND = {
    "gemm": ("m", 131_072.0, {"n": 8192.0, "k": 8192.0}),
    "attention_prefill": ("batch", 1024.0, {"new_tokens": 4096.0, "num_q_heads": 32.0, "num_kv_heads": 8.0, "head_dim": 128.0}),
    "attention_decode": ("kv_tokens", 524_288.0, {"batch": 64.0, "num_q_heads": 32.0, "num_kv_heads": 8.0, "head_dim": 128.0}),
    "mla": ("kv_tokens", 524_288.0, {"batch": 64.0, "num_heads": 16.0, "decode": 1.0}),
    "moe": ("num_tokens", 262_144.0, {"hidden_size": 4096.0, "inter_size": 1536.0, "topk": 8.0, "num_experts": 128.0}),
    "elementwise": ("num_tokens", 262_144.0, {"width": 8192.0, "bytes_per_token": 65_536.0}),
}


def fitted(hardware: str) -> list[KernelModel]:
    profile = load_profile(hardware)
    wanted = [e for e in profile.document.operators if e.operator in BEYOND and not (e.operator == "mla" and "prefill" in e.kernel)]
    found = [profile.candidates(e.operator, e.dtype, e.backend, kv_dtype=e.kv_dtype, kernel=e.kernel) for e in wanted]
    return [m for entry, models in zip(wanted, found, strict=True) for m in models if m.entry == entry]


@pytest.mark.parametrize("hardware", ["a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "rtx-pro-6000", "h800", "b200-sxm", "l40s"])
def test_times_grow_with_the_work_beyond_the_largest_size(hardware: str) -> None:
    models = fitted(hardware)
    assert models
    for model in models:
        size, first, others = BEYOND[model.operator.name]
        seconds = model.seconds(**{size: first * LARGER}, **others)
        growth = seconds[1:] / seconds[:-1]
        assert (growth > 1.6).all(), f"{model.label}: {growth} for twice the work"
        assert (growth < 2.6).all(), f"{model.label}: {growth} for twice the work"


@pytest.mark.parametrize("hardware", ["a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm"])
def test_messages_beyond_the_largest_one_go_at_its_bandwidth(hardware: str) -> None:
    models = load_profile(hardware).candidates("all_reduce", "bf16")
    for model in [m for m in models if m.covers(num_gpus=8, num_nodes=1, gpus_per_node_used=0)]:
        size = 2.0**34 * LARGER
        seconds = model.seconds(message_bytes=size, num_gpus=8.0, num_nodes=1.0)
        assert np.allclose(seconds / seconds[0], LARGER, rtol=0.05), model.label
