"""Routed experts: which are read, and at what pace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simserve.contracts import Slice, Step
from simserve.cost.cold import experts_read_s, gemm_read_s
from simserve.cost.expert_layer import expert_seconds
from simserve.cost.experts import coverage, fullest
from simserve.cost.host import HostOverheads
from simserve.cost.kernels import KernelChoice
from simserve.cost.options import CostOptions
from simserve.cost.padded_experts import padded_rows
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


RANDOM_TOKENS = CostOptions(expert_popularity=1.3)


def times(op: MoE, hardware: str, backend: str, skew: float | None, options: CostOptions | None = None) -> np.ndarray:
    choice = KernelChoice(load_profile(hardware), backend, expert_skew=skew, options=options or CostOptions())
    return expert_seconds(choice, op, TOKENS)


CASES = [("h100-sxm-80gb", "vllm"), ("h200-sxm-141gb", "vllm"), ("h200-sxm-141gb", "trtllm")]


@pytest.mark.parametrize(("hardware", "backend"), CASES)
def test_a_small_step_leaves_experts_unread_and_a_large_one_is_uneven(hardware: str, backend: str) -> None:
    """gpt-oss-120b: 32 tokens x 4 of 128 experts are dealt out to all experts by a balanced benchmark, never by a router."""
    op = experts_of("gpt-oss-120b", 2)
    natural, balanced, skewed = (times(op, hardware, backend, skew) for skew in (None, 0.0, 1.01))
    small, large = TOKENS == 32, TOKENS == 8192
    assert natural[small] < 0.65 * balanced[small]
    assert natural[large] == pytest.approx(skewed[large], rel=0.01)
    assert natural[large] > 1.1 * balanced[large]
    assert (natural <= np.maximum(balanced, skewed) * 1.05).all()


def test_random_tokens_read_fewer_experts_than_texts_and_even_choice_most() -> None:
    op = experts_of("gpt-oss-120b", 1)
    random, texts, even = (
        times(op, "h100-sxm-80gb", "vllm", None, CostOptions(expert_popularity=exponent)) for exponent in (1.3, 0.7, 0.0)
    )
    assert (times(op, "h100-sxm-80gb", "vllm", None) == texts).all()
    small = (TOKENS > 1) & (TOKENS < 100)
    assert (random[small] < 0.8 * texts[small]).all() and (texts[small] < 1.03 * even[small]).all()
    assert random[-1] == pytest.approx(even[-1], rel=0.02)


def test_a_small_step_takes_what_the_balanced_benchmark_takes_of_as_many_experts() -> None:
    """By the coverage, 32 random tokens of gpt-oss-120b choose 32.6 % of 128 experts, which 10.4 tokens dealt out evenly read."""
    op = experts_of("gpt-oss-120b", 1)
    kernels = KernelChoice(load_profile("h200-sxm-141gb"), "trtllm", expert_skew=0.0)
    as_many = 128 * coverage(np.array([32.0]), 128, 4) / 4
    assert as_many == pytest.approx(10.4, rel=0.01)
    natural = times(op, "h200-sxm-141gb", "trtllm", None, RANDOM_TOKENS)[TOKENS == 32]
    assert natural == pytest.approx(expert_seconds(kernels, op, as_many), rel=1e-9)


@pytest.mark.parametrize(("clients", "measured_ms"), [(8, 8.45), (16, 11.4), (32, 15.3), (64, 20.5)])
def test_steps_of_gpt_oss_take_what_was_measured(clients: int, measured_ms: float) -> None:
    """One H200, TensorRT-LLM, prompts and answers of 922 tokens (SemiAnalysisAI/InferenceX): decode steps of so many sequences, and as many
    prompts beside them in the course of an answer, half a step more each."""
    model = load_model("gpt-oss-120b")
    host = HostOverheads(8e-4, 2e-5, cuda_graph_sizes=(8, 16, 32, 64))
    cost = StepCost(
        model, load_profile("h200-sxm-141gb"), host, Parallel(1), backend="trtllm", max_context_tokens=8192, options=RANDOM_TOKENS
    )
    step = cost.step_time(Step(clients, clients * 1400, 1400, []))
    mixed = cost.step_time(Step(clients, clients * 1400, 1400, [Slice(922, 0)]))
    mean = step + (clients - 1) * (mixed - step) / 922
    assert mean == pytest.approx(measured_ms * 1e-3, rel=0.13)


def test_routers_with_a_balancing_bias_and_few_experts_choose_evenly() -> None:
    evenly = {name: experts_of(name, 1).evenly_chosen for name in ("deepseek-r1", "kimi-k2.5", "glm-5-fp8", "mixtral-8x7b")}
    assert all(evenly.values())
    assert not any(experts_of(name, 1).evenly_chosen for name in ("gpt-oss-120b", "qwen3-30b-a3b", "llama-4-maverick"))
    op = experts_of("qwen3-30b-a3b", 1)
    natural, even = (times(o, "h200-sxm-141gb", "sglang", None, RANDOM_TOKENS) for o in (op, replace(op, evenly_chosen=True)))
    assert (even >= natural * 0.99).all()
    assert even[TOKENS == 16] > 1.3 * natural[TOKENS == 16]
    device = load_profile("h200-sxm-141gb").device
    assert (experts_read_s(device, op, TOKENS) <= experts_read_s(device, replace(op, evenly_chosen=True), TOKENS) * 1.0001).all()


@pytest.mark.parametrize("ranks", [2, 4, 8, 32])
def test_the_fullest_rank_is_what_drawing_gives(ranks: int) -> None:
    random = np.random.default_rng(ranks)
    for hit in (0.1, 0.4, 0.8):
        drawn = [random.permutation(np.arange(256) < hit * 256).reshape(ranks, -1).mean(axis=1).max() for _ in range(2000)]
        assert fullest(np.array([hit]), 256, ranks)[0] == pytest.approx(np.mean(drawn), rel=0.13)
    assert list(fullest(np.array([0.0, 0.3, 1.0]), 256, 1)) == [0.0, 0.3, 1.0]
    assert fullest(np.array([0.99]), 8, 8)[0] == 1.0


def test_a_spread_layer_waits_for_its_fullest_rank() -> None:
    """16 random tokens of Qwen3-235B hit 37 % of the experts, and 52 % of the 16 on the fullest of eight ranks."""
    architecture = load_model("qwen3-235b-a22b-fp8")
    op = next(o for o in layer_operators(architecture, Parallel(8, 1, 1, 8), 0) if isinstance(o, MoE))
    kernels = KernelChoice(load_profile("h100-sxm-80gb"), "trtllm", expert_skew=0.0)
    hit = fullest(coverage(np.array([16.0]), 128, 8), 128, 8)
    assert hit == pytest.approx(0.54, abs=0.02)
    natural = times(op, "h100-sxm-80gb", "trtllm", None, RANDOM_TOKENS)[TOKENS == 16]
    assert natural == pytest.approx(expert_seconds(kernels, op, hit * 16), rel=1e-9)


def kernels_used(op: MoE, hardware: str, backend: str, options: CostOptions | None = None) -> list[str]:
    choice = KernelChoice(load_profile(hardware), backend, options=options or CostOptions())
    expert_seconds(choice, op, TOKENS)
    return sorted(choice.used)


def test_vllm_splits_experts_in_triton_and_spreads_them_in_cutlass() -> None:
    """vllm/model_executor/layers/fused_moe/oracle/fp8.py, fp8 with a scale a block on Hopper."""
    split = experts_of("deepseek-r1", 8)
    spread = replace(split, tensor_parallel=1, expert_parallel=8)
    assert all("triton" in name for name in kernels_used(split, "h200-sxm-141gb", "vllm"))
    assert all("cutlass" in name for name in kernels_used(spread, "h200-sxm-141gb", "vllm"))
    assert all("cutlass" in name for name in kernels_used(split, "h200-sxm-141gb", "trtllm"))


def test_marlin_is_timed_where_it_is_asked_for_and_where_there_is_nothing_else() -> None:
    op = experts_of("gpt-oss-120b", 1)
    assert all("triton" in name for name in kernels_used(op, "h100-sxm-80gb", "vllm"))
    asked = kernels_used(op, "h100-sxm-80gb", "vllm", CostOptions(expert_kernel="marlin"))
    assert len(asked) == 2
    assert all("marlin" in name for name in asked)
    assert all("marlin" in name for name in kernels_used(op, "a100-sxm-80gb", "vllm"))


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


def test_padded_experts_multiply_every_row_whatever_is_asked() -> None:
    """Qwen3-235B split over two H200: 32 routed rows and 127 more for each of 128 experts are 127.25 tiles; with 16,256 routed rows, twice
    as many. One and 16 tokens take the same, a quarter to a third of a millisecond a layer."""
    op = experts_of("qwen3-235b-a22b-fp8", 2)
    assert list(padded_rows(op, np.array([4.0, 2032.0]))) == [16_384.0, 32_512.0]
    assert padded_rows(replace(op, expert_parallel=8), np.array([4.0]))[0] == 2_048 + 128
    choice = KernelChoice(load_profile("h200-sxm-141gb"), "vllm", options=CostOptions(expert_kernel="deepgemm-padded"))
    few, more, many = expert_seconds(choice, op, np.array([1.0, 16.0, 2048.0]))
    assert few == pytest.approx(more, rel=1e-6)
    assert 2.5e-4 < few < 4e-4
    assert many == pytest.approx(2 * few, rel=0.1)


def test_steps_of_vllm_0_12_take_what_was_measured() -> None:
    """Qwen3-235B in fp8 on two H200, 16 clients, 2,000 + 2,000 tokens: 51.7 ms a token (ai-dynamo/aiconfigurator), 16 ms under SGLang."""
    model, hardware = load_model("qwen3-235b-a22b-fp8"), load_profile("h200-sxm-141gb")
    steps = [
        StepCost(model, hardware, None, Parallel(2), backend="vllm", max_context_tokens=8192, options=options).step_time(
            Step(16, 16 * 3000, 3000, [])
        )
        for options in (RANDOM_TOKENS, CostOptions(expert_kernel="deepgemm-padded"))
    ]
    assert steps[0] < 0.025
    assert steps[1] == pytest.approx(51.7e-3, rel=0.25)
