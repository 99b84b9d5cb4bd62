"""4-bit floats: FP4 units where the device has them, weights unpacked into 16-bit kernels elsewhere, MXFP8 activations by engine."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.cost.expert_layer import expert_seconds
from simserve.cost.four_bits import multiplied_as
from simserve.cost.kernels import KernelChoice
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model
from simserve.model.layout import layer_operators
from simserve.model.operators import MoE

B200, H100, MI300X, RTX = (load_profile(name) for name in ("b200-sxm", "h100-sxm-80gb", "mi300x", "rtx-pro-6000-server"))
TOKENS = np.array([1.0, 64.0, 4096.0])


def experts(name: str) -> MoE:
    model = load_model(name)
    return next(op for op in layer_operators(model, Parallel(), model.num_layers - 1) if isinstance(op, MoE))


@pytest.mark.parametrize(
    ("engine", "operator", "stored", "on_b200", "on_h100"),
    [
        ("vllm", "gemm", "w4a4_nvfp4", "w4a4_nvfp4", "w4a16_nvfp4"),
        ("sglang 0.5.14", "moe", "w4a4_nvfp4", "w4a4_nvfp4", "w4a16_nvfp4"),
        ("vllm", "moe", "w4a16_mxfp4", "w4a16_mxfp4", "w4a16_mxfp4"),
        ("sglang", "moe", "w4a16_mxfp4", "w4a8_mxfp4", "w4a16_mxfp4"),
        ("trtllm", "moe", "w4a16_mxfp4", "w4a8_mxfp4", "w4a16_mxfp4"),
        ("trtllm", "gemm", "w4a16_mxfp4", "w4a16_mxfp4", "w4a16_mxfp4"),
        ("vllm", "moe", "w4a4_mxfp4", "w4a16_mxfp4", "w4a16_mxfp4"),
        (None, "moe", "w4a16_mxfp4", "w4a16_mxfp4", "w4a16_mxfp4"),
        ("vllm", "gemm", "fp8", "fp8", "fp8"),
    ],
)
def test_the_format_an_engine_multiplies_in(engine: str | None, operator: str, stored: str, on_b200: str, on_h100: str) -> None:
    assert multiplied_as(B200.device, engine, operator, stored) == on_b200
    assert multiplied_as(H100.device, engine, operator, stored) == on_h100
    assert multiplied_as(RTX.device, engine, operator, stored) == on_b200
    assert multiplied_as(MI300X.device, engine, operator, stored) == on_h100


def test_without_fp4_units_weights_alone_are_small() -> None:
    """On H100 NVFP4 saves the reading of weights, and multiplies no faster than bf16."""
    kernels = KernelChoice(H100, "vllm")
    m = np.array([1.0, 16384.0])
    four, sixteen = (kernels.gemm_seconds(d, m, np.full(2, 28672.0), np.full(2, 8192.0)) for d in ("w4a4_nvfp4", "bf16"))
    assert four[0] < 0.6 * sixteen[0] and four[1] > 0.95 * sixteen[1]
    assert "gemm w4a16_nvfp4, roofline estimate" in kernels.describe()["unvalidated"]
    own = KernelChoice(B200, "vllm")
    native = own.gemm_seconds("w4a4_nvfp4", m, np.full(2, 28672.0), np.full(2, 8192.0))
    assert native[1] < 0.4 * own.gemm_seconds("bf16", m, np.full(2, 28672.0), np.full(2, 8192.0))[1]


def test_experts_in_nvfp4_run_in_marlin_on_hopper() -> None:
    op = experts("nvidia/Qwen3-30B-A3B-NVFP4")
    assert op.dtype == "w4a4_nvfp4"
    hopper, blackwell = KernelChoice(H100, "vllm"), KernelChoice(B200, "vllm")
    slow, fast = expert_seconds(hopper, op, TOKENS), expert_seconds(blackwell, op, TOKENS)
    assert (fast < slow).all()
    assert any("marlin" in model.entry.kernel for model in hopper.used.values() if model.entry)
    assert any("nvfp4" in model.entry.kernel for model in blackwell.used.values() if model.entry)


def test_gpt_oss_has_8_bit_activations_on_blackwell_under_sglang() -> None:
    op = experts("gpt-oss-120b")
    assert op.dtype == "w4a16_mxfp4"
    for engine, expected in (("sglang", "w4a8_mxfp4"), ("trtllm", "w4a8_mxfp4"), ("vllm", "w4a16_mxfp4")):
        kernels = KernelChoice(B200, engine)
        expert_seconds(kernels, op, TOKENS)
        assert {model.context.dtype for model in kernels.used.values()} == {expected}
    kernels = KernelChoice(H100, "sglang")
    expert_seconds(kernels, op, TOKENS)
    assert {model.context.dtype for model in kernels.used.values()} == {"w4a16_mxfp4"}


def test_a_format_that_alone_was_measured_is_kept() -> None:
    """Where the tables have MXFP4 with 16-bit activations only, they are not left for an estimate."""
    kernels = KernelChoice(H100, "sglang")
    assert kernels.multiplied("w4a16_mxfp4", "moe") == "w4a16_mxfp4"
    assert KernelChoice(load_profile("rtx-5090"), "sglang").multiplied("w4a16_mxfp4", "moe") == "w4a8_mxfp4"
