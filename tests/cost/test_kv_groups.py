"""What a sequence holds where layers differ: arithmetic by hand, of models whose windows and states are published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simserve.cost.kv_groups import KvGroup, kv_groups, pool_notes, sequence_bytes, sequences_that_fit
from simserve.cost.memory import kv_capacity
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.parallel import Parallel

ONE = Parallel()
FULL = KvGroup("full", 2, 0, 100.0)
WINDOW = KvGroup("window", 3, 128, 150.0)


def test_gpt_oss_has_twelve_layers_of_each_kind() -> None:
    """8 key/value heads of 64 elements, keys and values, 2 bytes: 2,048 bytes a token and layer."""
    assert kv_groups(load_model("gpt-oss-20b"), ONE) == (KvGroup("full", 12, 0, 12 * 2048), KvGroup("window", 12, 128, 12 * 2048))
    halved = kv_groups(load_model("gpt-oss-20b"), Parallel(tp=2), kv_dtype_bytes=1.0)
    assert [group.bytes_per_token for group in halved] == [12 * 512, 12 * 512]


def test_sixty_thousand_tokens_of_gpt_oss_on_one_h100() -> None:
    """60,200 tokens take 12 x 2,048 bytes each, and 144 more in the windows: 1.48 GB. With windows kept, 36 to 40 of them fit."""
    model, groups = load_model("gpt-oss-20b"), kv_groups(load_model("gpt-oss-20b"), ONE)
    capacity = kv_capacity(model, load_profile("h100-sxm-80gb"), ONE, max_batched_tokens=8192, max_seqs=1024)
    assert sequence_bytes(groups, 60_200, "window", block_tokens=16) == 12 * 2048 * (60_208 + 144)
    assert 36 <= sequences_that_fit(capacity.kv_bytes, groups, 60_200, "window", block_tokens=16) <= 40
    assert sequences_that_fit(capacity.kv_bytes, groups, 60_200, "full", block_tokens=16) in (19, 20, 21)


def test_a_sequence_shorter_than_its_window_holds_its_own_tokens() -> None:
    assert sequence_bytes((FULL, WINDOW), 100, "window") == sequence_bytes((FULL, WINDOW), 100, "full") == 100 * 250


def test_a_window_need_not_begin_with_a_block_and_a_chunk_is_held_beside_it() -> None:
    """Window 128, blocks of 16: the last 128 tokens touch 9 blocks at most; with a chunk of 2,048, 137 (2,175 / 16, and one)."""
    assert sequence_bytes((WINDOW,), 10_000, "window", block_tokens=16) == 9 * 16 * 150
    assert sequence_bytes((WINDOW,), 10_000, "window", block_tokens=16, step_tokens=2048) == 137 * 16 * 150


def test_a_block_table_used_round_and_round_serves_models_of_one_window_only() -> None:
    assert sequence_bytes((WINDOW,), 10_000, "uniform") == sequence_bytes((WINDOW,), 10_000, "window")
    assert sequence_bytes((FULL, WINDOW), 10_000, "uniform") == sequence_bytes((FULL, WINDOW), 10_000, "full")


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
    assert sequence_bytes(kv_groups(model, ONE), 1000, "full") == whole.state_bytes + 12 * 2 * 2 * 256 * 2 * 1000


def test_notes_say_where_one_pool_is_not_what_the_engine_has() -> None:
    model = load_model("gpt-oss-20b")
    groups = kv_groups(model, ONE)
    (note,) = pool_notes(model, "vLLM", groups, "window", 256, 1e10)
    assert "12 of the 24 attention layers" in note and "2.0 times" in note
    assert pool_notes(model, "SGLang", groups, "full", 256, 1e10) == []
    plain = load_model("llama-3.1-8b")
    assert pool_notes(plain, "vLLM", kv_groups(plain, ONE), "window", 256, 1e10) == []
    state = (FULL, KvGroup("recurrent", 3, state_bytes=64 * 2**20))
    (note,) = pool_notes(plain, "vLLM", state, "window", 256, 10 * 2**30)
    assert "256 sequences hold 16.0 GiB beside the 10.0 GiB" in note
