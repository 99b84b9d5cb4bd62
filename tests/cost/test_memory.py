"""KV capacity: what is left of the memory, and a clear word when nothing is."""

from __future__ import annotations

import pytest

from simserve.cost.memory import CONTEXT_BYTES, activation_bytes, kv_capacity
from simserve.errors import ConfigError, ModelError
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.parallel import Parallel

A100 = load_profile("a100-sxm-80gb")


def test_llama_2_7b_on_an_a100() -> None:
    """vLLM reports 7,000 to 7,500 blocks of 16 tokens for a 7B model with 32 KV heads on an 80 GB A100 at 0.9."""
    capacity = kv_capacity(load_model("llama-2-7b"), A100, Parallel())
    assert 7000 < capacity.blocks < 7500
    assert capacity.tokens == capacity.blocks * 16
    used = capacity.tokens * capacity.bytes_per_token + capacity.weight_bytes + capacity.activation_bytes + capacity.context_bytes
    assert capacity.usable_bytes - 16 * capacity.bytes_per_token < used <= capacity.usable_bytes


def test_more_ranks_leave_more_room() -> None:
    model = load_model("llama-3.1-70b")
    four, eight = (kv_capacity(model, A100, Parallel(tp=tp)) for tp in (4, 8))
    assert eight.tokens > 2 * four.tokens


def test_what_does_not_fit_names_both_sizes_and_the_tp_that_would() -> None:
    with pytest.raises(ModelError, match=r"131\.\d GiB of weights.*may use 71\.\d GiB.*tp 2 would fit"):
        kv_capacity(load_model("llama-3.1-70b"), A100, Parallel())
    with pytest.raises(ModelError, match=r"tp 16 would fit|no tensor-parallel"):
        kv_capacity(load_model("llama-3.1-405b"), A100, Parallel(tp=8))


def test_utilisation_is_a_fraction() -> None:
    for bad in (0.0, 1.2, float("nan")):
        with pytest.raises(ConfigError, match="memory_utilisation"):
            kv_capacity(load_model("llama-2-7b"), A100, Parallel(), memory_utilisation=bad)
    model = load_model("llama-2-7b")
    assert kv_capacity(model, A100, Parallel(), memory_utilisation=0.5).blocks < kv_capacity(model, A100, Parallel()).blocks


def test_activations_grow_with_the_largest_step() -> None:
    model = load_model("llama-2-7b")
    assert activation_bytes(model, Parallel(), 8192, 1) == 4 * activation_bytes(model, Parallel(), 2048, 1)
    assert activation_bytes(model, Parallel(), 1, 256) == 256 * 32000 * 10


# ---- what the fraction is of ----

H100 = load_profile("h100-sxm-80gb")
GIB = 2**30


@pytest.mark.parametrize(("fraction", "gib"), [(0.9, 55.0), (0.5, 30.6), (0.2, 12.2)])
def test_a_fraction_of_what_is_left_is_for_the_cache_alone(fraction: float, gib: float) -> None:
    """TensorRT-LLM on an H100 (79.1 GiB) with Llama-3.1-8B (15.0 GiB): fraction x (memory - weights - 2.4 GiB of logits - 0.6 GiB)."""
    rule = {"fraction_of": "free", "block_tokens": 32, "max_batched_tokens": 8192, "max_seqs": 2048}
    capacity = kv_capacity(load_model("llama-3.1-8b"), H100, Parallel(), memory_utilisation=fraction, **rule)
    assert capacity.kv_bytes / GIB == pytest.approx(gib, abs=0.1)
    left = H100.device.hbm_bytes - capacity.weight_bytes - capacity.activation_bytes - capacity.context_bytes
    assert fraction * left - 32 * capacity.bytes_per_token < capacity.kv_bytes <= fraction * left


def test_half_of_what_70b_leaves_on_two_devices() -> None:
    """65.7 GiB of weights a rank leave 13.4; of the device's memory half would not even hold the weights."""
    model, rule = load_model("llama-3.1-70b"), {"memory_utilisation": 0.5, "max_batched_tokens": 8192, "max_seqs": 2048}
    free = kv_capacity(model, H100, Parallel(tp=2), fraction_of="free", **rule)
    assert 4.8 < free.kv_bytes / GIB < 5.6
    with pytest.raises(ModelError, match="does not fit"):
        kv_capacity(model, H100, Parallel(tp=2), fraction_of="device", **rule)


def test_a_static_fraction_leaves_activations_to_the_rest() -> None:
    """SGLang: cache = fraction x (memory before loading) - weights, whatever a step needs, as long as the rest has room for it."""
    model, memory = load_model("llama-3.1-8b"), H100.device.hbm_bytes - CONTEXT_BYTES
    small, large = (
        kv_capacity(model, H100, Parallel(), fraction_of="device-static", memory_utilisation=0.8, max_batched_tokens=tokens, block_tokens=1)
        for tokens in (2048, 65_536)
    )
    assert small.blocks == large.blocks == int((0.8 * memory - small.weight_bytes) / small.bytes_per_token)
    device = kv_capacity(model, H100, Parallel(), memory_utilisation=0.8, max_batched_tokens=65_536, block_tokens=1)
    assert device.kv_bytes == pytest.approx(small.kv_bytes - large.activation_bytes - 0.2 * CONTEXT_BYTES, rel=1e-4)


def test_a_static_fraction_that_leaves_too_little_is_refused_with_what_would_do() -> None:
    """131,072 tokens of Llama-3.1-8B take 10 GiB of activations; 5 % of an H100 are 3.9 GiB."""
    rule = {"fraction_of": "device-static", "max_batched_tokens": 131_072}
    with pytest.raises(ModelError, match=r"leave 3\.9 GiB.*131,072 tokens needs 10\.0 GiB.*a fraction of 0\.87\d at most"):
        kv_capacity(load_model("llama-3.1-8b"), H100, Parallel(), memory_utilisation=0.95, **rule)
    assert kv_capacity(load_model("llama-3.1-8b"), H100, Parallel(), memory_utilisation=0.872, **rule).blocks


def test_what_does_not_fit_says_what_the_fraction_is_of() -> None:
    model = load_model("llama-3.1-70b")
    with pytest.raises(ModelError, match=r"0\.0 GiB of 79\.1 GiB are left, of which the cache gets 0\.9; tp 2 would fit"):
        kv_capacity(model, H100, Parallel(), fraction_of="free")
    with pytest.raises(ModelError, match=r"weights and KV cache may use 63\.3 GiB.*tp 4 would fit"):
        kv_capacity(model, H100, Parallel(tp=2), fraction_of="device-static", memory_utilisation=0.8)
