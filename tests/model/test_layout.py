"""What a rank runs, against the shapes that serving engines run."""

import json

import pytest

from simserve.errors import ModelError
from simserve.model import (
    Parallel,
    check,
    head_operators,
    layer_groups,
    layer_operators,
    load_model,
    model_names,
    rank_weight_bytes,
    stage_layers,
    stage_transfer_bytes_per_token,
    stage_weight_bytes,
)
from simserve.model.operators import MLA, AllReduce, Attention, Elementwise, ExpertExchange, Gemm, LinearAttentionCore, MoE


def gemms(model, parallel, layer=0):
    return {op.name: (op.n, op.k) for op in layer_operators(model, parallel, layer) if isinstance(op, Gemm)}


def only(kind, operators):
    (found,) = [op for op in operators if isinstance(op, kind)]
    return found


def test_llama_2_7b_shapes():
    assert gemms(load_model("llama-2-7b"), Parallel()) == {
        "attn_pre_proj": (12288, 4096),
        "attn_post_proj": (4096, 4096),
        "mlp_up_proj": (22016, 4096),
        "mlp_down_proj": (4096, 11008),
    }


def test_llama_70b_shapes_on_four_ranks():
    model = load_model("llama-3.1-70b")
    assert gemms(model, Parallel(tp=4)) == {
        "attn_pre_proj": ((64 + 16) * 128 // 4, 8192),
        "attn_post_proj": (8192, 8192 // 4),
        "mlp_up_proj": (2 * 28672 // 4, 8192),
        "mlp_down_proj": (8192, 28672 // 4),
    }
    operators = layer_operators(model, Parallel(tp=4), 0)
    attention = only(Attention, operators)
    assert (attention.q_heads, attention.kv_heads, attention.head_dim) == (16, 2, 128)
    assert [(op.bytes_per_token, op.group) for op in operators if isinstance(op, AllReduce)] == [(2 * 8192, 4)] * 2


def test_replicated_kv_heads_widen_the_projection():
    # 8 KV heads on 16 ranks: each holds one whole head, so QKV is wider than a sixteenth.
    assert gemms(load_model("llama-3.1-70b"), Parallel(tp=16))["attn_pre_proj"] == ((4 + 2) * 128, 8192)


def test_order_of_a_layer_is_that_of_the_forward_pass():
    names = [op.name for op in layer_operators(load_model("llama-3.1-8b"), Parallel(tp=2), 0)]
    assert names == [
        "input_layernorm",
        "attn_pre_proj",
        "attn_rope",
        "attn",
        "attn_post_proj",
        "attn_all_reduce",
        "post_attention_layernorm",
        "mlp_up_proj",
        "mlp_act",
        "mlp_down_proj",
        "mlp_all_reduce",
    ]


def test_one_rank_communicates_nothing():
    for name in ("llama-2-7b", "falcon-180b", "mixtral-8x7b", "deepseek-v3"):
        model = load_model(name)
        assert not [op for op in layer_operators(model, Parallel(), 0) if isinstance(op, AllReduce | ExpertExchange)]


def test_parallel_attention_and_mlp_share_one_all_reduce():
    operators = layer_operators(load_model("falcon-180b"), Parallel(tp=8), 0)
    assert len([op for op in operators if isinstance(op, AllReduce)]) == 1


def test_a_plain_mlp_has_one_up_projection():
    assert gemms(load_model("opt-13b"), Parallel())["mlp_up_proj"] == (20480, 5120)


def test_opt_has_positions_and_no_rotary():
    model = load_model("opt-13b")
    assert "attn_rope" not in {op.name for op in layer_operators(model, Parallel(), 0)}
    assert only(Elementwise, [op for op in head_operators(model, Parallel()).embedding if op.name == "position_emb"]).weight_bytes == (
        2050 * 5120 * 2
    )


def test_window_layers_of_gpt_oss_alternate():
    model = load_model("gpt-oss-20b")
    windows = [only(Attention, layer_operators(model, Parallel(), layer)).window_tokens for layer in range(4)]
    assert windows == [128, 0, 128, 0]
    assert layer_groups(model) == ((0, 12), (1, 12))


def test_llama_4_attends_in_chunks_on_three_of_four_layers():
    model = load_model("llama-4-scout")
    assert model.layer_windows[:4] == (8192, 8192, 8192, 0)
    assert layer_groups(model) == ((0, 36), (3, 12))
    assert only(Attention, layer_operators(model, Parallel(), 0)).window_kind == "chunked"


def test_experts_are_split_by_width_or_by_number():
    model = load_model("qwen3-30b-a3b")
    by_width = only(MoE, layer_operators(model, Parallel(tp=4), 0))
    by_number = only(MoE, layer_operators(model, Parallel(tp=4, ep=4), 0))
    assert (by_width.tensor_parallel, by_width.expert_parallel) == (4, 1)
    assert (by_number.tensor_parallel, by_number.expert_parallel) == (1, 4)
    assert by_width.weight_bytes == by_number.weight_bytes == 128 * 3 * 2048 * 768 * 2 // 4
    assert gemms(model, Parallel(tp=4))["moe_router"] == (128, 2048)


def test_only_data_parallel_attention_exchanges_tokens():
    model = load_model("deepseek-v3")
    operators = layer_operators(model, Parallel(tp=1, dp=8, ep=8), 10)
    dispatch, combine = (op for op in operators if isinstance(op, ExpertExchange))
    assert dispatch.name == "moe_dispatch" and dispatch.bytes_per_token == 7168  # fp8 there
    assert combine.name == "moe_combine" and combine.bytes_per_token == 2 * 7168  # bf16 back
    assert not [op for op in layer_operators(model, Parallel(tp=8, ep=8), 10) if isinstance(op, ExpertExchange)]


def test_deepseek_v3_latent_projections():
    model = load_model("deepseek-v3")
    shapes = gemms(model, Parallel(tp=8), layer=10)
    assert shapes["attn_qkv_a_proj"] == (1536 + 512 + 64, 7168)  # replicated
    assert shapes["attn_q_b_proj"] == (128 * 192 // 8, 1536)
    assert shapes["attn_post_proj"] == (7168, 128 * 128 // 8)
    assert shapes["shared_up_proj"] == (2 * 2048 // 8, 7168)
    mla = only(MLA, layer_operators(model, Parallel(tp=8), 10))
    assert (mla.q_heads, mla.kv_lora_rank, mla.qk_rope_head_dim) == (16, 512, 64)
    assert mla.gemm_dtype == "fp8_block128"
    assert layer_groups(model) == ((0, 3), (3, 58))  # three dense layers first


def test_linear_attention_layers_have_no_cache_operator():
    model = load_model("qwen3.5-35b-a3b")
    operators = layer_operators(model, Parallel(), 0)
    assert not [op for op in operators if isinstance(op, Attention)]
    assert only(LinearAttentionCore, operators).state_bytes_per_sequence > 0
    assert only(Attention, layer_operators(model, Parallel(), 3)).head_dim == 256


def test_the_head_splits_a_padded_vocabulary():
    model = load_model("opt-13b")  # 50272 is padded to 50304
    head = head_operators(model, Parallel(tp=4))
    lm_head = only(Gemm, head.output)
    assert (lm_head.n, lm_head.k) == (50304 // 4, 5120)


def test_quantised_layers_leave_the_head_alone():
    model = load_model("qwen3-32b-fp8")
    assert {op.dtype for op in layer_operators(model, Parallel(), 0) if isinstance(op, Gemm)} == {"fp8_block128"}
    assert only(Gemm, head_operators(model, Parallel()).output).dtype == "bf16"


@pytest.mark.parametrize("name", model_names())
def test_one_rank_holds_the_whole_model(name):
    """Two ways to count the same bytes: by parameter and by operator. Only vocabulary padding may come on top."""
    model = load_model(name)
    padding = -model.vocab_size % 64 * model.hidden_size * 2 * (1 if model.tie_word_embeddings else 2)
    extra = rank_weight_bytes(model, Parallel()) - model.weight_bytes()
    assert abs(extra - padding) <= 8 * model.num_layers + 256  # scales round up or down, biases are padded too


@pytest.mark.parametrize(("name", "tps"), [("llama-3.1-70b", (1, 2, 4, 8)), ("qwen3-30b-a3b", (1, 2, 4)), ("deepseek-v3", (1, 2, 4, 8))])
def test_ranks_together_hold_at_least_the_model(name, tps):
    model = load_model(name)
    sizes = [rank_weight_bytes(model, Parallel(tp=tp)) for tp in tps]
    for tp, size in zip(tps, sizes, strict=True):
        assert model.weight_bytes() <= tp * size * 1.0001 and tp * size <= 1.2 * model.weight_bytes()
    assert sizes == sorted(sizes, reverse=True)


def test_expert_parallel_ranks_hold_their_experts():
    model = load_model("deepseek-v3")
    rank = rank_weight_bytes(model, Parallel(dp=8, ep=8))
    experts = 671.026e9 - 653.909e9 * 7 / 8  # attention is replicated, an eighth of the experts
    assert rank / experts == pytest.approx(1.0, abs=0.12)  # embeddings and head take two bytes


def test_stages_split_the_layers_and_the_ends():
    model = load_model("llama-2-7b")
    stages = stage_layers(model, Parallel(pp=5))
    assert [len(s) for s in stages] == [6, 6, 7, 7, 6]  # vLLM: what is left goes before the last stage
    assert [layer for s in stages for layer in s] == list(range(32))
    sizes = stage_weight_bytes(model, Parallel(pp=2))
    assert sum(sizes) == model.weight_bytes()
    assert rank_weight_bytes(model, Parallel(pp=2)) == max(sizes)


def test_a_tied_head_on_another_stage_needs_its_copy():
    model = load_model("qwen3-0.6b")
    table = 151936 * 1024 * 2
    assert sum(stage_weight_bytes(model, Parallel(pp=2))) == model.weight_bytes() + table


def test_stage_transfers_are_split_over_tensor_ranks():
    assert stage_transfer_bytes_per_token(load_model("llama-3.1-70b"), Parallel(tp=4, pp=2)) == 2 * 2 * 8192 // 4


@pytest.mark.parametrize(
    ("name", "parallel", "message"),
    [
        ("llama-2-7b", Parallel(tp=3), "tp 3 does not divide num_attention_heads 32"),
        ("llama-2-7b", Parallel(tp=0), "tp is 0"),
        ("llama-2-7b", Parallel(pp=33), "pp 33 exceeds its 32 layers"),
        ("llama-2-7b", Parallel(dp=2), "has no experts"),
        ("llama-2-7b", Parallel(ep=2), "has no experts"),
        ("yi-34b", Parallel(tp=14), "neither a divisor nor a multiple of num_kv_heads 8"),
        ("qwen2.5-7b", Parallel(tp=8), "tp 8 does not divide num_attention_heads 28; it can be 1, 2, 4, 7, 14, 28"),
        ("mixtral-8x7b", Parallel(tp=4, ep=3), "ep 3 does not divide tp x dp"),
        ("mixtral-8x7b", Parallel(tp=4, dp=4, ep=16), "ep 16 exceeds its 8 experts"),
    ],
)
def test_impossible_layouts_say_why(name, parallel, message):
    with pytest.raises(ModelError) as error:
        check(load_model(name), parallel)
    assert message in str(error.value)
    with pytest.raises(ModelError):
        layer_operators(load_model(name), parallel, 0)


def test_layers_that_share_an_indexers_choice_score_nothing_but_attend_as_sparsely():
    model = load_model("glm-5.2")
    scoring = [
        layer for layer in range(model.num_layers) if any(op.name == "indexer_scores" for op in layer_operators(model, Parallel(), layer))
    ]
    assert len(scoring) == 21 and scoring[:5] == [0, 1, 2, 6, 10]
    assert {only(MLA, layer_operators(model, Parallel(), layer)).topk_tokens for layer in range(model.num_layers)} == {2048}
    every, some = load_model("glm-5"), model
    assert every.kv_bytes_per_token() - some.kv_bytes_per_token() == pytest.approx(57 * 132)  # 128 fp8 keys and a scale a layer
    assert every.parameters() > some.parameters()


def test_keys_and_values_of_deci_models_are_held_with_the_most_heads_of_any_layer(tmp_path):
    config = {"model_type": "deci", "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8, "intermediate_size": 512}
    config |= {"vocab_size": 100, "max_position_embeddings": 64, "num_key_value_heads_per_layer": [1, 4, 2]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_model(tmp_path).num_kv_heads == 4
    assert load_model("decilm-7b").num_kv_heads == 4
