"""Multi-head latent attention of a prompt without cached context, by hand: keys and values are made from the latent (the naive form), so a
query and a key cost 2 x (192 + 128) FLOPs a head (DeepSeek-V2, arXiv 2405.04434 §2.1), not the 2 x (576 + 512) of the absorbed one."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.contracts import Slice
from simserve.cost.kernels import KernelChoice
from simserve.cost.prefill import PrefillAttention
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model
from simserve.model.layout import layer_groups, layer_operators
from simserve.model.operators import MLA

NOPE, ROPE, VALUE, LATENT = 128, 64, 128, 512
LAYERS, HEADS = 61, 16
"""Of DeepSeek-V3; the heads of one rank of 8."""


def latent_layers() -> list[tuple[MLA, int]]:
    model, parallel = load_model("deepseek-v3"), Parallel(tp=8)
    return [
        (op, count)
        for layer, count in layer_groups(model, parallel, 0)
        for op in layer_operators(model, parallel, layer)
        if isinstance(op, MLA)
    ]


def flops(tokens: int, per_pair: int) -> float:
    """Of one layer on one rank: each token attends itself and those before it."""
    return 2.0 * HEADS * (tokens * (tokens + 1) / 2) * per_pair


def traffic(tokens: int) -> float:
    """Bytes of one layer on one rank, 2 an element: queries and outputs at the width of a query, keys and values once."""
    return 2.0 * HEADS * tokens * (2 * (NOPE + ROPE) + (NOPE + ROPE + VALUE))


def test_the_layers_are_those_of_the_model() -> None:
    layers = latent_layers()
    assert sum(count for _, count in layers) == LAYERS
    assert {(op.q_heads, op.kv_lora_rank, op.qk_nope_head_dim, op.qk_rope_head_dim, op.v_head_dim) for op, _ in layers} == {
        (HEADS, LATENT, NOPE, ROPE, VALUE)
    }


@pytest.mark.parametrize("tokens", [16, 128, 1024, 4096, 16384])
def test_an_estimate_is_the_naive_form_by_hand(tokens: int) -> None:
    """On a device without measurements: the longer of arithmetic at 55 % of the peak and traffic at 75 % of the bandwidth, and a launch."""
    profile = load_profile("l40s")
    device = profile.device
    attention = PrefillAttention(KernelChoice(profile, analytic=True), latent_layers(), 32_768)
    arithmetic_s = flops(tokens, NOPE + ROPE + VALUE) / (0.55 * device.peak("bf16"))
    memory_s = traffic(tokens) / (0.75 * device.hbm_bytes_per_s)
    by_hand = LAYERS * (max(arithmetic_s, memory_s) + 6e-6)
    assert attention.seconds([Slice(tokens, 0)]) == pytest.approx(by_hand, rel=1e-9)


def test_short_prompts_are_bound_by_memory_and_long_ones_by_arithmetic() -> None:
    """FLOPs over bytes are (n + 1) x 320 / (2 x 704): they pass what the L40S can do (199 TFLOP/s over 648 GB/s) at 1,351 tokens."""
    device = load_profile("l40s").device
    ridge = 0.55 * device.peak("bf16") / (0.75 * device.hbm_bytes_per_s)
    crossing = ridge * 2 * 704 / 320 - 1
    attention = PrefillAttention(KernelChoice(load_profile("l40s"), analytic=True), latent_layers(), 32_768)

    def doubled(tokens: int) -> float:
        one, two = (attention.seconds([Slice(n, 0)]) - LAYERS * 6e-6 for n in (tokens, 2 * tokens))
        return two / one

    assert crossing == pytest.approx(1351, rel=0.01)
    assert doubled(512) == pytest.approx(2.0, rel=1e-6)
    assert doubled(4096) == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize("hardware", ["h100-sxm-80gb", "h200-sxm-141gb"])
def test_measured_prompts_run_faster_than_the_absorbed_form_could(hardware: str) -> None:
    """The rows taken for prompts are of the naive form: over 16,384 tokens the absorbed one would need more than the peak."""
    profile = load_profile(hardware)
    kernels = KernelChoice(profile)
    attention = PrefillAttention(kernels, latent_layers(), 32_768)
    tokens, peak = 16_384, profile.device.peak("bf16")
    seconds = attention.seconds([Slice(tokens, 0)])
    assert LAYERS * flops(tokens, NOPE + ROPE + VALUE) / peak < seconds < LAYERS * flops(tokens, 2 * LATENT + ROPE) / peak
    (used,) = [model for model in kernels.used.values() if model.operator.name == "mla"]
    assert used.entry is not None and used.entry.backend.startswith("trtllm") and "prefill" in used.entry.kernel


def test_a_context_costs_extra_and_no_context_nothing() -> None:
    attention = PrefillAttention(KernelChoice(load_profile("l40s"), analytic=True), latent_layers(), 32_768)
    times = [attention.seconds([Slice(1024, context)]) for context in (0, 1024, 4096)]
    assert all(np.diff(times) > 0)
    # 1,024 tokens after 1,024 make the pairs of a prompt of 2,048 but for those of its first half: three times as many as without.
    assert times[1] < attention.seconds([Slice(2048, 0)])


@pytest.mark.parametrize(("prompts", "replicas", "each"), [(32, 32, 1), (32, 8, 4), (3, 8, 1), (8, 4, 2)])
def test_equal_prompts_of_attention_replicas_take_as_long_as_those_of_one_of_them(prompts: int, replicas: int, each: int) -> None:
    kernels = KernelChoice(load_profile("l40s"), analytic=True)
    shared, own = (PrefillAttention(kernels, latent_layers(), 32_768, count) for count in (replicas, 1))
    assert shared.seconds([Slice(1024, 0)] * prompts) == pytest.approx(own.seconds([Slice(1024, 0)] * each))


def test_a_replica_with_a_long_prompt_takes_no_other_while_the_others_have_less_to_do() -> None:
    kernels = KernelChoice(load_profile("l40s"), analytic=True)
    shared, own = (PrefillAttention(kernels, latent_layers(), 32_768, count) for count in (4, 1))
    assert shared.seconds([Slice(16_384, 0), *[Slice(1024, 0)] * 3]) == own.seconds([Slice(16_384, 0)])
    assert shared.seconds([Slice(16_384, 0), *[Slice(1024, 0)] * 6000]) > own.seconds([Slice(16_384, 0)])
