"""What papers' methods read, attend and recompute, by hand on small layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simserve.cost.decode import DecodeAttention, _tokens_read
from simserve.cost.host import HostOverheads
from simserve.cost.kernels import KernelChoice
from simserve.cost.memory import CONTEXT_BYTES, activation_bytes, kv_capacity
from simserve.cost.options import CostOptions
from simserve.errors import ConfigError, ModelError
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.operators import MLA, Attention
from simserve.model.parallel import Parallel


def heads(kv_heads: int, window_tokens: int = 0) -> Attention:
    return Attention("attention", 32, kv_heads, 128, window_tokens, "sliding", "bf16")


GROUPED, EACH_ITS_OWN = heads(8), heads(32)


def decode(options: CostOptions, layer: Attention, context: int) -> tuple[float, float]:
    attended, read = options.decode_tokens(layer, np.array([float(context)]))
    return float(attended[0]), float(read[0])


def test_a_head_attends_its_window_its_budget_or_its_stream() -> None:
    assert decode(CostOptions(), GROUPED, 10_000) == (10_000, 10_000)
    windowed = heads(8, 512)
    assert decode(CostOptions(), windowed, 10_000) == (512, 512)
    assert decode(CostOptions(), windowed, 300) == (300, 300)
    assert decode(CostOptions(attention_budget_tokens=4096), GROUPED, 10_000) == (4096, 4096)
    # LServe: half of the heads attend 128 first and 256 recent tokens, the others 4,096 chosen by statistics of 64 tokens each.
    lserve = CostOptions(streaming_head_fraction=0.5, attention_budget_tokens=4096, selector_stride_tokens=64)
    assert decode(lserve, GROUPED, 64_000) == (0.5 * 4096 + 0.5 * 384, 0.5 * 4096 + 0.5 * 384 + 0.5 * 1000)
    assert decode(lserve, GROUPED, 200) == (200, 200 + 0.5 * 200 / 64)


def test_fewer_bits_read_less_and_what_stays_exact_is_read_besides() -> None:
    assert decode(CostOptions(kv_bits=4), GROUPED, 8000) == (8000, 2000)
    assert decode(CostOptions(kv_bits=4, kv_exact_tokens=256), GROUPED, 8000) == (8000, 2256)
    # The layer's input is half of keys and values where every query head has its own, as much where heads share (XQuant).
    assert decode(CostOptions(kv_representation="layer-input"), EACH_ITS_OWN, 8000) == (8000, 4000)
    assert decode(CostOptions(kv_representation="layer-input"), GROUPED, 8000) == (8000, 8000)


def test_a_step_takes_no_less_than_reading_what_is_kept_of_the_cache() -> None:
    """Of 8,000 tokens in 4 bits a quarter is read; latent attention reads all latents, or those that its indexer chose."""
    context = np.array([8000.0])
    assert _tokens_read(KernelChoice(load_profile("h100-sxm-80gb"), options=CostOptions(kv_bits=4)), GROUPED, context).tolist() == [2000]
    assert _tokens_read(KernelChoice(load_profile("h100-sxm-80gb")), GROUPED, context).tolist() == [8000]
    latent = MLA("attention", 16, 512, 128, 64, 128, 0, "bf16", "bf16", 0)
    assert _tokens_read(KernelChoice(load_profile("h100-sxm-80gb")), latent, context).tolist() == [8000]
    chosen = replace(latent, topk_tokens=2048)
    assert _tokens_read(KernelChoice(load_profile("h100-sxm-80gb")), chosen, context).tolist() == [2048]
    assert _tokens_read(KernelChoice(load_profile("h100-sxm-80gb")), chosen, np.array([2000.0])).tolist() == [2000]


def test_keys_and_values_are_made_again_by_two_matrices() -> None:
    """2 FLOPs for each of hidden x width weights, twice; with grouped queries the latent has the width of the keys."""
    again = CostOptions(kv_representation="layer-input")
    assert again.recompute_flops(EACH_ITS_OWN) == 2 * 2 * 4096 * 4096
    assert again.recompute_flops(GROUPED) == 2 * 2 * 1024 * 1024
    assert CostOptions().recompute_flops(GROUPED) == 0


def test_streaming_heads_are_whole_key_heads_with_their_queries() -> None:
    whole, streaming = CostOptions(streaming_head_fraction=0.25).prefill_pieces(GROUPED)
    assert (whole.q_heads, whole.kv_heads, whole.window_tokens) == (24, 6, GROUPED.window_tokens)
    assert (streaming.q_heads, streaming.kv_heads, streaming.window_tokens) == (8, 2, 4224)
    (every,) = CostOptions(streaming_head_fraction=1.0).prefill_pieces(GROUPED)
    assert (every.q_heads, every.kv_heads) == (32, 8)
    assert CostOptions(streaming_head_fraction=0.05).prefill_pieces(GROUPED) == (GROUPED,), "0.4 of a head is none"
    windowed = heads(8, 512)
    assert CostOptions(streaming_head_fraction=0.5).prefill_pieces(windowed)[1].window_tokens == 512


@pytest.mark.parametrize(("fraction", "layers"), [(1.0, 32), (0.5, 16), (0.51, 16), (0.01, 1)])
def test_prompts_run_over_their_part_of_the_layers_and_at_least_one(fraction: float, layers: int) -> None:
    assert CostOptions(prefill_layer_fraction=fraction).early_layers(load_model("llama-3.1-8b")) == layers


def test_layers_that_share_a_cache_round_up() -> None:
    """Of 32 layers 16 keep their own cache; the others share one for each 3: 6. So 22 of 32."""
    options = CostOptions(prefill_layer_fraction=0.5, kv_layers_per_cache=3)
    assert options.cached_fraction(load_model("llama-3.1-8b")) == 22 / 32


def test_which_options_touch_decode_attention() -> None:
    touching = {
        "kv_bits": 8, "kv_exact_tokens": 1, "kv_representation": "layer-input", "streaming_head_fraction": 0.5,
        "attention_budget_tokens": 10, "attention_efficiency": 0.7, "attention_scalar_fraction": 0.1,
    }  # fmt: skip
    assert all(CostOptions(**{key: value}).changes_decode_attention for key, value in touching.items())
    assert not CostOptions(prefill_layer_fraction=0.5, kv_layers_per_cache=2, a8_fraction=0.2).changes_decode_attention
    assert CostOptions().is_plain and not CostOptions(a8_fraction=0.2).is_plain
    assert CostOptions(a8_fraction=0.2).changed() == {"a8_fraction": 0.2}


def test_between_the_contexts_of_the_table_attention_is_a_straight_line() -> None:
    """One sequence: at every context of the table its own seconds, between two of them the line through both, beyond the last its line."""
    table = DecodeAttention(KernelChoice(load_profile("h100-sxm-80gb")), [(GROUPED, 3)], 8192)
    contexts, seconds = table._contexts.astype(float), table._grid[0]
    for at, expected in zip(contexts, seconds, strict=True):
        assert table.seconds(1, int(at)) == pytest.approx(expected, rel=1e-9)
    middle = (contexts[1:-1] + contexts[2:]) // 2
    for at in middle:
        assert table.seconds(1, int(at)) == pytest.approx(float(np.interp(at, contexts, seconds)), rel=1e-9)
    slope = (seconds[-1] - seconds[-2]) / (contexts[-1] - contexts[-2])
    assert table.seconds(1, int(3 * contexts[-1])) == pytest.approx(seconds[-1] + 2 * contexts[-1] * slope)
    # Two replicas take half of the sequences each: three sequences are timed as one and a half.
    shared = DecodeAttention(KernelChoice(load_profile("h100-sxm-80gb")), [(GROUPED, 3)], 8192, 2)
    one, two = (float(shared._grid[row, 5]) for row in (0, 1))
    assert shared.seconds(3, 3 * int(shared._contexts[5])) == pytest.approx((one + two) / 2)


# ---- memory ----


def test_the_widest_layer_of_llama_2_7b() -> None:
    """A token's residual and hidden state (4,096 elements each), and in and out of gate and up (4,096 and 2 x 11,008), 2 bytes each."""
    assert activation_bytes(load_model("llama-2-7b"), Parallel(), 2048, 1) == 2048 * (2 * 4096 + 4096 + 2 * 11008) * 2
    assert activation_bytes(load_model("llama-2-7b"), Parallel(tp=2), 2048, 1) == 2048 * (2 * 4096 + 4096 + 11008) * 2


def test_the_widest_layer_of_mixtral_has_two_copies_of_each_token() -> None:
    """Each copy: gate and up, 2 x 14,336, and hidden_size 4,096. On 8 ranks of experts, a copy in four."""
    model = load_model("mixtral-8x7b")
    assert activation_bytes(model, Parallel(), 2048, 1) == 2048 * (2 * 4096 + 2 * (2 * 14336 + 4096)) * 2


def test_what_is_used_is_weights_activations_context_and_cache() -> None:
    capacity = kv_capacity(load_model("llama-2-7b"), load_profile("a100-sxm-80gb"), Parallel())
    assert capacity.context_bytes == CONTEXT_BYTES == 600 * 2**20
    assert capacity.kv_bytes == capacity.blocks * 16 * capacity.bytes_per_token
    assert capacity.bytes_per_token == 2 * 32 * 4096 * 2
    assert capacity.usable_bytes == 0.9 * load_profile("a100-sxm-80gb").device.hbm_bytes


def test_the_whole_memory_may_be_used() -> None:
    assert kv_capacity(load_model("llama-2-7b"), load_profile("a100-sxm-80gb"), Parallel(), memory_utilisation=1.0).blocks > 7500


def test_one_block_is_enough_and_none_is_not() -> None:
    """The utilisation at which the last block goes."""
    model, profile = load_model("llama-2-7b"), load_profile("a100-sxm-80gb")
    full = kv_capacity(model, profile, Parallel())
    before = full.weight_bytes + full.activation_bytes + full.context_bytes
    block = 16 * full.bytes_per_token
    fraction = (before + 1.5 * block) / profile.device.hbm_bytes
    assert kv_capacity(model, profile, Parallel(), memory_utilisation=fraction).blocks == 1
    with pytest.raises(ModelError, match="does not fit"):
        kv_capacity(model, profile, Parallel(), memory_utilisation=(before + 0.5 * block) / profile.device.hbm_bytes)


def test_what_would_fit_is_the_smallest_degree_above_the_asked() -> None:
    """Llama-3.1-405B holds 756 GiB of weights: 51 GiB on each of 16 A100s; nothing smaller has room, and 8 were asked."""
    with pytest.raises(ModelError, match="tp 16 would fit"):
        kv_capacity(load_model("llama-3.1-405b"), load_profile("a100-sxm-80gb"), Parallel(tp=8))


# ---- the host ----


@pytest.mark.parametrize(("requests", "size"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, None)])
def test_a_batch_runs_in_the_next_captured_graph(requests: int, size: int | None) -> None:
    assert HostOverheads(cuda_graph_sizes=(1, 2, 4)).graph_size(requests) == size


@pytest.mark.parametrize("sizes", [(0, 1), (2, 2), (4, 2), (-1,)])
def test_graph_sizes_rise_from_one(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="ascending"):
        HostOverheads(cuda_graph_sizes=sizes)


@pytest.mark.parametrize("name", ["per_step_s", "per_decode_request_s", "per_prefill_token_s", "kernel_launch_s"])
def test_a_host_takes_no_negative_time(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        HostOverheads(**{name: -1e-9})
    with pytest.raises(ConfigError, match=name):
        HostOverheads(**{name: float("nan")})
    assert getattr(HostOverheads(**{name: 0.0}), name) == 0
