"""Routed experts: which are read, and at what pace."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.contracts import Step
from simserve.cost.cold import experts_read_s, gemm_read_s
from simserve.cost.expert_layer import expert_seconds
from simserve.cost.kernels import KernelChoice
from simserve.cost.step import StepCost
from simserve.cost.tokens import TokenTable
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model
from simserve.model.layout import layer_operators
from simserve.model.operators import Gemm, MoE

TOKENS = np.array([1.0, 4.0, 16.0, 32.0, 64.0, 128.0, 512.0, 2048.0, 8192.0])


def experts_of(model: str, tp: int, quantisation: str | None = None) -> MoE:
    architecture = load_model(model, quantisation=quantisation)
    layer = architecture.moe_layers.index(True)
    return next(op for op in layer_operators(architecture, Parallel(tp), layer) if isinstance(op, MoE))


def times(op: MoE, hardware: str, backend: str, skew: float | None) -> np.ndarray:
    return expert_seconds(KernelChoice(load_profile(hardware), backend, expert_skew=skew), op, TOKENS)


@pytest.mark.parametrize(("hardware", "backend"), [("h100-sxm-80gb", "vllm"), ("h200-sxm-141gb", "vllm"), ("h200-sxm-141gb", "trtllm")])
def test_a_small_step_leaves_experts_unread_and_a_large_one_spreads_its_load(hardware: str, backend: str) -> None:
    """gpt-oss-120b: 32 tokens x 4 of 128 experts are dealt out to all experts by a balanced benchmark, never by a router."""
    op = experts_of("gpt-oss-120b", 2)
    natural, balanced, skewed = (times(op, hardware, backend, skew) for skew in (None, 0.0, 1.01))
    small, large = TOKENS == 32, TOKENS == 8192
    assert natural[small] < 0.75 * balanced[small]
    assert natural[large] <= balanced[large] < skewed[large]
    assert (natural <= np.minimum(balanced, skewed) * 1.0001).all()


def test_nothing_is_faster_than_reading_the_experts_that_are_chosen() -> None:
    profile = load_profile("h200-sxm-141gb")
    for model, tp in (("gpt-oss-120b", 2), ("deepseek-r1", 8), ("qwen3-30b-a3b", 1)):
        op = experts_of(model, tp)
        assert (times(op, profile.name, "sglang", None) >= experts_read_s(profile.device, op, TOKENS)).all()


def test_one_scale_a_tensor_is_no_slower_than_one_a_block() -> None:
    """The tables' per-tensor kernels take five times as long as the block-scaled ones at these sizes; engines choose."""
    tensor, block = (times(experts_of("llama-4-scout", 2, q), "h100-sxm-80gb", "vllm", None) for q in ("fp8", "fp8_block128"))
    assert (tensor <= block * 1.0001).all()


def test_llama_4_scout_in_fp8_on_two_h100_takes_what_was_measured() -> None:
    """23.05 ms per token at 6 requests a second of 251 tokens (35 at a time), inference-sim/sim-to-real-accuracy-validation."""
    model = load_model("llama-4-scout-fp8")
    cost = StepCost(model, load_profile("h100-sxm-80gb"), None, Parallel(2), backend="vllm", max_context_tokens=8192)
    assert cost.step_time(Step(35, 35 * 875, 875, [])) == pytest.approx(23.05e-3, rel=0.12)


def test_shared_experts_of_a_small_step_cost_their_reading_only() -> None:
    """Engines run them beside the routed experts: no kernel of their own stands in the way. A prompt pays for them."""
    profile = load_profile("h200-sxm-141gb")
    shared = [
        op for op in layer_operators(load_model("deepseek-r1"), Parallel(8), 10) if isinstance(op, Gemm) and op.name.startswith("shared_")
    ]
    assert len(shared) == 2
    table = TokenTable(KernelChoice(profile, "sglang"), [(op, 1) for op in shared], 1024)
    reading = sum(float(gemm_read_s(profile.device, np.array(float(op.n)), np.array(float(op.k)), op.dtype)) for op in shared)
    assert table[1] == pytest.approx(reading)
    assert table[256] == pytest.approx(reading)
    assert table[512] > 5 * reading
