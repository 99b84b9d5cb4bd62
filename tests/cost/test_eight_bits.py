"""fp8 weights and fp8 caches: what an engine runs beside the multiplication, and what it reads."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.contracts import Step
from simserve.cost.decode import DecodeAttention
from simserve.cost.kernels import KernelChoice
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model
from simserve.model.operators import Attention

H200 = "h200-sxm-141gb"
EIGHT = CostOptions(kv_bits=8)


@pytest.mark.parametrize(("tp", "measured_ms"), [(1, 20.8), (2, 12.2), (8, 6.5)])
def test_tensorrt_llm_serves_llama_70b_in_fp8_at_the_measured_pace(tp: int, measured_ms: float) -> None:
    """Four clients, 1024 tokens in and 8192 out: InferenceMAX rows of ai-dynamo/aiconfigurator. With the quantisation that its kernel
    table was timed with, 320 multiplications a step would take 3 ms more."""
    model = load_model("meta-llama/Llama-3.1-70B", quantisation="fp8")
    cost = StepCost(model, load_profile(H200), None, Parallel(tp), backend="trtllm", max_context_tokens=16384, options=EIGHT)
    assert cost.step_time(Step(4, 4 * 4600, 4600, [])) == pytest.approx(measured_ms * 1e-3, rel=0.1)


def test_a_multiplication_without_its_quantisation_keeps_the_physical_bound() -> None:
    kernels = KernelChoice(load_profile(H200), "trtllm")
    m = np.array([1.0, 64.0, 1024.0, 8192.0])
    for n, k in ((256.0, 256.0), (1280.0, 8192.0), (57344.0, 8192.0), (8192.0, 28672.0)):
        seconds = kernels.gemm_seconds("fp8", m, np.full_like(m, n), np.full_like(m, k))
        model = kernels.operator("gemm", "fp8")
        columns = {"m": m, "n": np.full_like(m, n), "k": np.full_like(m, k)}
        assert (seconds >= model.operator.bound_s(model.context, columns)).all()
        assert (seconds < model.seconds(**columns)).all()


def decode_seconds(options: CostOptions, hardware: str, backend: str) -> float:
    kernels = KernelChoice(load_profile(hardware), backend, options=options)
    return DecodeAttention(kernels, [(Attention("attn", 32, 8, 128, 0, "sliding", "bf16"), 1)], 8192).seconds(256, 256 * 1024)


def test_an_fp8_cache_is_read_by_the_kernel_that_was_measured_with_one() -> None:
    fraction = decode_seconds(EIGHT, H200, "trtllm") / decode_seconds(CostOptions(), H200, "trtllm")
    assert 0.4 < fraction < 0.65
    assert KernelChoice(load_profile(H200), options=EIGHT).stored_kv("attention_decode", "bf16") == "fp8"
    for hardware, options in (("a100-sxm-80gb", EIGHT), (H200, CostOptions(kv_bits=4)), (H200, CostOptions())):
        kernels = KernelChoice(load_profile(hardware), options=options)
        assert kernels.stored_kv("attention_decode", "bf16") == "bf16", "such a cache was not timed there: the 16-bit kernel is scaled"
