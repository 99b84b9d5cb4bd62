"""KV capacity: what is left of the memory, and a clear word when nothing is."""

from __future__ import annotations

import pytest

from simserve.cost.memory import activation_bytes, kv_capacity
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


def test_utilisation_is_a_share() -> None:
    for bad in (0.0, 1.2, float("nan")):
        with pytest.raises(ConfigError, match="memory_utilisation"):
            kv_capacity(load_model("llama-2-7b"), A100, Parallel(), memory_utilisation=bad)
    model = load_model("llama-2-7b")
    assert kv_capacity(model, A100, Parallel(), memory_utilisation=0.5).blocks < kv_capacity(model, A100, Parallel()).blocks


def test_activations_grow_with_the_largest_step() -> None:
    model = load_model("llama-2-7b")
    assert activation_bytes(model, Parallel(), 8192, 1) == 4 * activation_bytes(model, Parallel(), 2048, 1)
    assert activation_bytes(model, Parallel(), 1, 256) == 256 * 32000 * 10
