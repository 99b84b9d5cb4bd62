"""What a sequence holds where layers differ: arithmetic by hand, of models whose windows and states are published."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from simserve.cost.kv_groups import KvGroup, PoolLayout, kv_groups, pool_layout
from simserve.cost.memory import kv_capacity
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.parallel import Parallel

ONE = Parallel()
WINDOW = KvGroup("window", 3, 128, 150.0)


def test_gpt_oss_has_twelve_layers_of_each_kind() -> None:
    """8 key/value heads of 64 elements, keys and values, 2 bytes: 2,048 bytes a token and layer."""
    assert kv_groups(load_model("gpt-oss-20b"), ONE) == (KvGroup("full", 12, 0, 12 * 2048), KvGroup("window", 12, 128, 12 * 2048))
    halved = kv_groups(load_model("gpt-oss-20b"), Parallel(tp=2), kv_dtype_bytes=1.0)
    assert [group.bytes_per_token for group in halved] == [12 * 512, 12 * 512]


def layout(model: str, windows: Any = "window", step_tokens: int = 8192) -> PoolLayout | None:
    return pool_layout(kv_groups(load_model(model), ONE), windows, 16, step_tokens)


def test_gpt_oss_takes_a_block_for_each_kind_of_layer() -> None:
    """A block: 16 tokens of 12 layers. The window touches 9 blocks of 16 tokens at most, with a step of 8,192 tokens 521."""
    assert layout("gpt-oss-20b") == PoolLayout(12 * 2048 * 16, 1, ((1, 521, 9),), 0)


def test_a_window_need_not_begin_with_a_block_and_a_chunk_is_held_beside_it() -> None:
    """Window 128, blocks of 16: the last 128 tokens touch 9 blocks at most; with a chunk of 2,048, 137 (2,175 / 16, and one)."""
    assert pool_layout((WINDOW,), "window", 16, 1) == PoolLayout(16 * 150, 0, ((1, 9, 9),), 0)
    assert pool_layout((WINDOW,), "window", 16, 2048) == PoolLayout(16 * 150, 0, ((1, 137, 9),), 0)


@pytest.mark.parametrize("window", [1, 16, 17, 128, 129])
@pytest.mark.parametrize(("step", "of_a_step"), [(0, 1), (1, 1), (2, 2), (17, 17)])
def test_an_engine_counts_one_block_more_than_hold_the_window_and_a_step(window: int, step: int, of_a_step: int) -> None:
    """vLLM's SlidingWindowSpec: blocks of 16 that hold window - 1 + step tokens, and one, since they need not begin with a block. A step
    of decodes has one token of each sequence. What a sequence touches, wherever it begins, is never more."""

    def touched(new: int) -> int:
        return max(len({token // 16 for token in range(first, first + window - 1 + new)}) for first in range(16))

    found = pool_layout((WINDOW._replace(window_tokens=window),), "window", 16, step)
    assert found is not None
    ((_, prefill, decode),) = found.windows
    assert (prefill, decode) == (math.ceil((window - 1 + of_a_step) / 16) + 1, math.ceil(window / 16) + 1)
    assert prefill >= touched(of_a_step) and decode >= touched(1)


def test_larger_groups_take_several_blocks_the_last_of_which_may_be_partly_unused() -> None:
    """Gemma 3 27B: 10 layers keep every token and 52 a window, in groups of 10 and with 8 layers of padding (vLLM's own example). Of 20
    and 25 layers the smaller group is padded instead."""
    gemma = (KvGroup("full", 10, 0, 10 * 8192), KvGroup("window", 52, 1024, 52 * 8192))
    assert pool_layout(gemma, "window", 16, 1) == PoolLayout(10 * 8192 * 16, 1, ((6, 65, 65),), 0)
    alike = (KvGroup("full", 20, 0, 2000), KvGroup("window", 25, 64, 2500))
    assert pool_layout(alike, "window", 16, 1) == PoolLayout(2500 * 16, 1, ((1, 5, 5),), 0)


def test_llama_4_keeps_a_quarter_of_its_layers_in_full() -> None:
    found = layout("llama-4-scout", step_tokens=1)
    assert found is not None and (found.full, found.windows) == (1, ((3, 513, 513),))


def test_a_draft_model_keeps_every_token() -> None:
    groups = (KvGroup("full", 12, 0, 1200.0), KvGroup("window", 12, 128, 1200.0), KvGroup("draft", 1, 0, 100.0))
    found = pool_layout(groups, "window", 16, 1)
    assert found == PoolLayout(1300.0 * 16, 1, ((1, 9, 9),), 0)


def test_a_block_table_used_round_and_round_serves_models_of_one_window_only() -> None:
    """4,096 tokens in blocks of 16: 256 blocks and two more, whatever the step."""
    assert layout("mistral-7b", "uniform") == PoolLayout(32 * 4096 * 16, 0, ((1, 258, 258),), 0)
    assert layout("gpt-oss-20b", "uniform") is None
    assert layout("mistral-7b", "full") is None and layout("llama-3.1-8b") is None


def test_the_stage_with_most_attention_is_the_one_that_counts() -> None:
    """24 alternating layers in 5 stages: the fullest have five, and the groups add up to what the capacity charges for a token."""
    model, parallel = load_model("gpt-oss-20b"), Parallel(pp=5)
    groups = kv_groups(model, parallel)
    assert sum(group.layers for group in groups) == 5
    capacity = kv_capacity(model, load_profile("h100-sxm-80gb"), parallel)
    assert sum(group.bytes_per_token for group in groups) == capacity.bytes_per_token


QWEN3_NEXT = {
    "model_type": "qwen3_next", "architectures": ["Qwen3NextForCausalLM"], "num_hidden_layers": 48, "hidden_size": 2048,
    "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "full_attention_interval": 4, "linear_num_key_heads": 16,
    "linear_num_value_heads": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    "num_experts": 512, "num_experts_per_tok": 10, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
    "intermediate_size": 5120, "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True, "vocab_size": 151936,
    "max_position_embeddings": 262144, "hidden_act": "silu", "rms_norm_eps": 1e-6, "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip


def test_recurrent_state_of_qwen3_next(tmp_path: Path) -> None:
    """36 layers of 32 value heads x 128 x 128 in float32 and 8,192 channels of a convolution of 4: 77 MB, half on each of two."""
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_NEXT))
    model = load_model(str(tmp_path / "config.json"))
    whole, half = (kv_groups(model, Parallel(tp=tp))[-1] for tp in (1, 2))
    assert whole.kind == "recurrent" and whole.layers == 36
    assert whole.state_bytes == 36 * (32 * 128 * 128 * 4 + 8192 * 3 * 2) == pytest.approx(77e6, rel=0.01)
    assert half.state_bytes == whole.state_bytes / 2
    block_bytes = 12 * 2 * 2 * 256 * 2 * 16
    assert pool_layout(kv_groups(model, ONE), "full", 16, 2048) == PoolLayout(block_bytes, 1, (), 197)
    assert 196 * block_bytes < whole.state_bytes <= 197 * block_bytes
    # On two ranks half the heads: half the state, in blocks of half the bytes.
    assert pool_layout(kv_groups(model, Parallel(tp=2)), "full", 16, 2048) == PoolLayout(block_bytes / 2, 1, (), 197)
