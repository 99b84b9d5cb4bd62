"""What may be said of a paper's options and of an instance's memory: bounds, what holds when nothing is said, kernels that are launched."""

from __future__ import annotations

import inspect
import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from simserve.bounds import MOST_TOKENS
from simserve.cost.cores.options import TaskTable
from simserve.cost.memory import CONTEXT_BYTES, KVCapacity, kv_capacity
from simserve.cost.options import CostOptions
from simserve.cost.stage import check_options
from simserve.cost.tokens import kernel_count
from simserve.errors import ModelError
from simserve.model import load_model
from simserve.model.layout import layer_groups, layer_operators
from simserve.model.operators import MLA, Attention, LinearAttentionCore, MoE
from simserve.model.parallel import Parallel
from tests.frozen import changeable

ABOVE_0 = "above 0"

NEEDED: dict[str, dict[str, Any]] = {
    "kv_layers_per_cache": {"prefill_layer_fraction": 0.5},
    "selector_stride_tokens": {"attention_budget_tokens": 4096},
}

NUMBERS: list[tuple[str, Any, Any, Any]] = [
    # key, default, least, most
    ("kv_bits", None, 0.01, 16),
    ("kv_exact_tokens", 0, 0, MOST_TOKENS),
    ("a8_fraction", 0.0, 0, 1),
    ("prefill_layer_fraction", 1, ABOVE_0, 1),
    ("kv_layers_per_cache", 1, 1, 10_000),
    ("streaming_head_fraction", 0.0, 0, 1),
    ("streaming_prefill_tokens", 128 + 4096, 1, MOST_TOKENS),  # LServe: 128 first tokens and 4,096 recent ones
    ("streaming_decode_tokens", 128 + 256, 1, MOST_TOKENS),
    ("attention_budget_tokens", None, 1, MOST_TOKENS),
    ("selector_stride_tokens", None, ABOVE_0, MOST_TOKENS),
    ("attention_efficiency", 1.0, 1e-3, 1e3),
    ("attention_scalar_fraction", None, ABOVE_0, 1),
    ("expert_popularity", 0.7, 0, 5),
    ("micro_batches", 1, 1, 2),
    ("expert_imbalance", 1.0, 1, 1e3),
]


@pytest.mark.parametrize(("key", "default", "least", "most"), NUMBERS)
def test_a_number_of_an_option(key: str, default: Any, least: Any, most: Any) -> None:
    def made(value: Any) -> Any:
        return getattr(CostOptions(**{**NEEDED.get(key, {}), key: value}), key)

    assert getattr(CostOptions(), key) == default
    assert made(most) == most
    whole = "int" in str(CostOptions.model_fields[key].annotation)
    smallest = 1e-9 if least == ABOVE_0 else least
    assert made(smallest) == smallest
    below = 0 if least == ABOVE_0 else least - 1 if whole else math.nextafter(least, -math.inf)
    for outside in (below, most + 1 if whole else math.nextafter(most, math.inf), math.nan, math.inf):
        with pytest.raises(ValidationError, match=key):
            made(outside)


def test_all_numbers_are_listed_and_no_option_says_nothing() -> None:
    numbers = {key for key, each in CostOptions.model_fields.items() if {"int", "float"} & set(re.findall(r"\w+", str(each.annotation)))}
    assert numbers == {key for key, _, _, _ in NUMBERS}
    assert CostOptions().is_plain and CostOptions().changed() == {} and CostOptions().kv_representation == "keys-and-values"
    assert not CostOptions(kv_bits=4.0).is_plain and CostOptions(kv_bits=4.0).changed() == {"kv_bits": 4.0}


def test_options_that_need_another() -> None:
    with pytest.raises(ValidationError, match="set prefill_layer_fraction below 1"):
        CostOptions(kv_layers_per_cache=2)
    with pytest.raises(ValidationError, match="needs attention_budget_tokens"):
        CostOptions(selector_stride_tokens=64.0)


def test_what_an_instance_keeps_for_its_cache_when_nothing_is_said() -> None:
    """vLLM's: 90 % of the memory, blocks of 16 tokens, steps of 2,048 tokens and 256 rows, 16-bit keys and values."""
    defaults = {name: each.default for name, each in inspect.signature(kv_capacity).parameters.items() if each.default is not each.empty}
    assert {name: defaults[name] for name in defaults if name != "draft"} == {
        "memory_utilisation": 0.9,
        "fraction_of": "device",
        "block_tokens": 16,
        "max_batched_tokens": 2048,
        "max_seqs": 256,
        "kv_dtype_bytes": 2.0,
    }
    assert 0.4 * 2**30 < CONTEXT_BYTES < 2**30, "engines report 0.4 to 1 GiB"


def test_a_cache_in_blocks_of_another_size() -> None:
    one = KVCapacity(10, 16, 100.0, 1000.0 + 16_000.0, 600, 300, 100)
    assert (one.tokens, one.kv_bytes) == (160, 16_000.0)
    assert one.blocks_of(1600.0) == 10 and one.blocks_of(1600.1) == 9 and one.blocks_of(16_000.0) == 1


def op(kind: type[Any]) -> Any:
    return object.__new__(kind)


def test_kernels_that_are_launched() -> None:
    """Attention writes its keys and values and reads them. Experts: top-k, three of sorting, expand, quantise, two grouped
    multiplications, activation, weighted sum. Around a recurrence: split, convolution and decay. Every other operator is one kernel."""
    other = SimpleNamespace()
    assert [kernel_count([(op(kind), 1)]) for kind in (Attention, MLA, MoE, LinearAttentionCore)] == [2, 2, 10, 4]
    assert kernel_count([(other, 1)]) == 1 and kernel_count([]) == 0  # type: ignore[list-item]
    assert kernel_count([(other, 3), (op(Attention), 2), (op(MoE), 1)]) == 3 + 4 + 10  # type: ignore[list-item]


def test_a_llama_layer_launches_ten_kernels() -> None:
    """Two norms, four multiplications, the rotation, the activation, and attention's two."""
    model, parallel = load_model("llama-2-7b"), Parallel()
    ((layer, count),) = layer_groups(model, parallel, 0)
    assert count == 32 and kernel_count([(each, 1) for each in layer_operators(model, parallel, layer)]) == 10


def test_values_of_the_costs_do_not_change() -> None:
    """But for the two that note what they have used."""
    assert changeable("simserve.cost") == {"KernelChoice", "Stage"}


def test_a_task_table_unless_stated() -> None:
    table = TaskTable()
    assert (table.cores, table.prefill_tile_rows, table.decode_tile_rows, table.key_tile_tokens) == (None, 128, 16, 1)
    assert (table.head_units, table.split_keys, table.launches) == ("kv-heads", True, "together")
    assert table.plain_mfu is table.prefix_mfu is table.chunked_mfu is None
    for key, most in (("cores", 4096), ("plain_mfu", 1.0)):
        stated = {"launches": "separate", "plain_mfu": 0.5, "prefix_mfu": 0.5, "chunked_mfu": 0.5}
        assert getattr(TaskTable(**{**stated, key: most}), key) == most
        for outside in (0, most + 1):
            with pytest.raises(ValidationError, match=key):
                TaskTable(**{**stated, key: outside})
    with pytest.raises(ValidationError, match="is below decode_tile_rows 16"):
        TaskTable(prefill_tile_rows=8)
    assert TaskTable(prefill_tile_rows=16).prefill_tile_rows == 16
    with pytest.raises(ValidationError, match="plain_mfu is for launches: separate"):
        TaskTable(plain_mfu=0.5, prefix_mfu=0.5, chunked_mfu=0.5)
    with pytest.raises(ValidationError, match="stated together"):
        TaskTable(launches="separate", plain_mfu=0.5, prefix_mfu=0.5)


@pytest.mark.parametrize(
    ("options", "model", "parallel", "words"),
    [
        ({"prefill_layer_fraction": 0.5}, {"attention_layers": 30}, {}, "layers without attention cannot be skipped in prefill"),
        ({"prefill_layer_fraction": 0.5}, {"linear_layers": (True,)}, {}, "linear-attention layers cannot be skipped in prefill"),
        ({"prefill_layer_fraction": 0.5}, {"mla": 1}, {}, "takes no options for the cache, attention or skipped layers"),
        ({"kv_bits": 4}, {"mla": 1}, {}, "takes no options for the cache, attention or skipped layers"),
        ({"kv_representation": "layer-input"}, {}, {"tp": 2}, "layer-input is modelled for tp 1 only, found tp 2"),
        ({"task_table": {}}, {"mla": 1}, {}, "task_table deals tiles of grouped-query attention"),
        ({"task_table": {}}, {}, {"dp": 2}, "task_table is modelled for one attention replica, found dp 2"),
        ({}, {"mla": 1, "attention_layers": 30}, {"tp": 2, "dp": 2}, ""),
        ({"kv_bits": 4}, {"attention_layers": 30, "linear_layers": (True,)}, {"tp": 2, "dp": 2}, ""),
        ({"a8_fraction": 0.5}, {"mla": 1}, {}, ""),
        ({"prefill_layer_fraction": 0.5}, {}, {"tp": 2}, ""),
        ({"kv_representation": "layer-input"}, {}, {"dp": 2}, ""),
        ({"task_table": {}}, {}, {"tp": 2}, ""),
    ],
)
def test_what_a_model_or_a_layout_cannot_take(options: dict[str, Any], model: dict[str, Any], parallel: dict[str, int], words: str) -> None:
    of: Any = SimpleNamespace(**{"name": "m", "mla": None, "linear_layers": (False,), "attention_layers": 32, "num_layers": 32, **model})
    if not words:
        check_options(CostOptions(**options), of, Parallel(**parallel))
        return
    with pytest.raises(ModelError, match=words):
        check_options(CostOptions(**options), of, Parallel(**parallel))
