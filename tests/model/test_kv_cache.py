"""Bytes of the KV cache of well-known models."""

import pytest

from simserve.model import Parallel, load_model, rank_kv_bytes_per_token


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        ("llama-2-7b", 524_288),  # 2 x 32 layers x 4096 x 2 bytes: the 0.5 MB a token that is often quoted
        ("opt-13b", 819_200),  # vLLM paper, arXiv 2309.06180 §3: 800 KB a token
        ("llama-3.1-8b", 131_072),
        ("llama-3.1-70b", 327_680),
        ("deepseek-v3", 70_272),  # arXiv 2505.09343 table 1: 70.272 KB
        ("llama-3.1-405b", 516_096),  # the same table: 516.096 KB
        ("qwen2.5-72b", 327_680),  # the same table: 327.680 KB
        ("mixtral-8x7b", 131_072),
    ],
)
def test_bytes_per_token(name, bytes_per_token):
    assert load_model(name).kv_bytes_per_token() == bytes_per_token


def test_one_byte_elements_halve_it():
    model = load_model("llama-3.1-70b")
    assert model.kv_bytes_per_token(kv_dtype_bytes=1) == model.kv_bytes_per_token() / 2


def test_heads_are_split_until_there_is_one_then_replicated():
    model = load_model("llama-3.1-70b")  # 8 KV heads, 80 layers of 4096 bytes
    assert [rank_kv_bytes_per_token(model, Parallel(tp=tp)) for tp in (1, 2, 8, 16)] == [327_680, 163_840, 40_960, 40_960]


def test_the_latent_is_whole_on_every_rank():
    model = load_model("deepseek-v3")
    assert rank_kv_bytes_per_token(model, Parallel(tp=8)) == rank_kv_bytes_per_token(model, Parallel()) == 70_272


def test_a_stage_caches_only_its_layers():
    model = load_model("llama-2-7b")
    assert rank_kv_bytes_per_token(model, Parallel(pp=4)) == 524_288 / 4
    # 61 layers over 4 stages: the fullest has 16.
    assert rank_kv_bytes_per_token(load_model("deepseek-v3"), Parallel(pp=4)) == 16 * 1152


def test_windows_bound_the_cache():
    model = load_model("gpt-oss-20b")  # every other of 24 layers sees 128 tokens
    per_layer = model.kv_bytes_per_token() / 24
    assert model.kv_bytes_of_sequence(100) == 100 * model.kv_bytes_per_token()
    assert model.kv_bytes_of_sequence(10_000) == per_layer * 12 * (10_000 + 128)


def test_a_window_of_the_whole_context_is_none():
    assert set(load_model("mistral-7b").layer_windows) == {4096}
    assert set(load_model("mistral-7b-v0.3").layer_windows) == {0}


def test_linear_layers_cache_a_state_not_tokens():
    model = load_model("qwen3.5-35b-a3b")  # 10 of 40 layers attend, with 2 heads of 256
    assert model.kv_bytes_per_token() == 10 * 2 * 2 * 256 * 2
    short, long = model.kv_bytes_of_sequence(1_000), model.kv_bytes_of_sequence(2_000)
    assert long - short == 1_000 * model.kv_bytes_per_token()
    assert short - 1_000 * model.kv_bytes_per_token() == 30 * model.linear_attention.state_bytes()


def test_sparse_attention_caches_index_keys_too():
    # DeepSeek-V3.2: 128 fp8 elements and a 4-byte scale beside each latent.
    assert load_model("deepseek-v3.2").kv_bytes_per_token() == 70_272 + 61 * 132
