"""Architectures of 2024 to 2026: published parameter counts, and KV and state bytes by hand."""

import pytest

from simserve.cost.kv_groups import kv_groups
from simserve.errors import ModelError
from simserve.model import Parallel, from_config, layer_operators, rank_kv_bytes_per_token, rank_weight_bytes
from simserve.model.operators import Attention, Gemm, LinearAttentionCore, MoE
from tests.model.recent_configs import ACTIVE_BILLIONS, CONFIGS, PUBLISHED_BILLIONS


def read(name, **changes):
    return from_config(CONFIGS[name] | changes, name=name)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_as_published(name):
    stated, tolerance = PUBLISHED_BILLIONS[name]
    assert read(name).parameters() / 1e9 == pytest.approx(stated, rel=tolerance)


@pytest.mark.parametrize("name", ACTIVE_BILLIONS)
def test_active_parameters_are_as_published(name):
    stated, tolerance = ACTIVE_BILLIONS[name]
    assert read(name).active_parameters() / 1e9 == pytest.approx(stated, rel=tolerance)


@pytest.mark.parametrize("name", CONFIGS)
def test_operators_own_the_weights_that_are_counted(name):
    """What the ranks run holds every parameter once: the two ways of counting are written apart."""
    model = read(name)
    assert rank_weight_bytes(model, Parallel()) == pytest.approx(model.weight_bytes(), rel=1e-3)
    assert model.weight_bytes() == 2 * model.parameters()


@pytest.mark.parametrize("name", CONFIGS)
def test_two_ranks_hold_everything(name):
    model = read(name)
    assert 2 * rank_weight_bytes(model, Parallel(tp=2)) >= 0.999 * model.weight_bytes()
    assert rank_weight_bytes(model, Parallel(tp=2)) <= 0.6 * model.weight_bytes()


# 2 (keys and values) x KV heads x head size x 2 bytes x layers that attend.
@pytest.mark.parametrize(
    ("name", "kv_bytes"),
    [
        ("gemma-3-4b", 2 * 4 * 256 * 2 * 34),
        ("qwen3.5-27b", 2 * 4 * 256 * 2 * 16),
        ("glm-4-32b", 2 * 2 * 128 * 2 * 61),
        ("granite-4.0-h-small", 2 * 8 * 128 * 2 * 4),
        ("nemotron-h-8b", 2 * 8 * 128 * 2 * 4),
        ("nemotron-3-nano-30b", 2 * 2 * 128 * 2 * 6),
        ("falcon-h1-34b", 2 * 4 * 128 * 2 * 72),
        ("step3", 2 * 1 * 256 * 2 * 61),
    ],
)
def test_kv_bytes_of_a_token(name, kv_bytes):
    model = read(name)
    assert model.kv_bytes_per_token() == kv_bytes
    assert rank_kv_bytes_per_token(model, Parallel()) == kv_bytes


# Heads x channels x state size in float32, and (kernel - 1) inputs of the convolution's channels in 2 bytes, a layer.
@pytest.mark.parametrize(
    ("name", "layers", "state", "convolution"),
    [
        ("granite-4.0-h-small", 36, 128 * 64 * 128 * 4, 3 * (8192 + 2 * 128) * 2),
        ("nemotron-h-8b", 24, 128 * 64 * 128 * 4, 3 * (8192 + 2 * 8 * 128) * 2),
        ("falcon-h1-34b", 72, 32 * 128 * 256 * 4, 3 * (4096 + 2 * 2 * 256) * 2),
        ("qwen3.5-27b", 48, 48 * 128 * 128 * 4, 3 * (2 * 16 * 128 + 48 * 128) * 2),
    ],
)
def test_recurrent_state_of_a_sequence(name, layers, state, convolution):
    model = read(name)
    assert model.recurrent_layers == layers
    assert model.recurrent_state_bytes() == layers * (state + convolution)
    assert kv_groups(model, Parallel())[-1].state_bytes == model.recurrent_state_bytes()
    assert model.kv_bytes_of_sequence(1000) == 1000 * model.kv_bytes_per_token() + model.recurrent_state_bytes()
    assert kv_groups(model, Parallel(pp=2))[-1].state_bytes == pytest.approx(model.recurrent_state_bytes() / 2, rel=0.1)


def test_a_stated_state_type_halves_the_state():
    half = read("nemotron-h-8b", mamba_ssm_cache_dtype="bfloat16")
    assert read("nemotron-h-8b").recurrent_state_bytes() - half.recurrent_state_bytes() == 24 * 128 * 64 * 128 * 2


def test_one_group_of_state_space_heads_is_on_every_rank():
    """Granite 4: B and C of the one group are needed by all heads (vLLM, mamba_mixer2.py), x and the state are split."""
    model = read("granite-4.0-h-small")
    assert kv_groups(model, Parallel(tp=4))[-1].state_bytes == 36 * (128 * 64 * 128 * 4 // 4 + 3 * (8192 // 4 + 2 * 128) * 2)


@pytest.mark.parametrize(
    ("name", "windowed", "window"),
    [("gemma-3-4b", 29, 1024), ("gemma-2-9b", 21, 4096), ("olmo-3-7b", 24, 4096), ("exaone-4-32b", 48, 4096), ("command-a", 48, 4096)],
)
def test_layers_with_a_window(name, windowed, window):
    model = read(name)
    assert sum(w == window for w in model.layer_windows) == windowed
    assert sum(w == 0 for w in model.layer_windows) == model.num_layers - windowed
    per_layer = model.kv_bytes_per_token() / model.num_layers
    assert model.kv_bytes_of_sequence(8000) == per_layer * (windowed * window + (model.num_layers - windowed) * 8000)


def test_layer_types_say_which_layers_have_a_window():
    types = ["full_attention", "sliding_attention"] * 16
    assert read("olmo-3-7b", layer_types=types).layer_windows == (0, 4096) * 16
    short = read("olmo-3-7b", layer_types=types[:2])
    assert short.layer_windows == (0, 4096) * 16 and "repeated" in short.assumptions[0]
    with pytest.raises(ModelError, match="layer_types has 33 entries for 32 layers"):
        read("olmo-3-7b", layer_types=[*types, "full_attention"])
    with pytest.raises(ModelError, match="layer_types holds 'mamba'"):
        read("olmo-3-7b", layer_types=["mamba"] * 32)


def test_each_layer_of_nemotron_h_is_one_thing():
    model = read("nemotron-h-8b")
    mixer, mlp, attention = (layer_operators(model, Parallel(), layer) for layer in (0, 1, 7))
    assert any(isinstance(op, LinearAttentionCore) for op in mixer) and not any("mlp" in op.name for op in mixer)
    assert [op.n for op in mlp if isinstance(op, Gemm)] == [21504, 4096]  # no gate
    assert any(isinstance(op, Attention) for op in attention) and not any("mlp" in op.name for op in attention)
    assert sum("layernorm" in op.name for op in mixer) == sum("layernorm" in op.name for op in mlp) == 1
    experts = [op for op in layer_operators(read("nemotron-3-nano-30b"), Parallel(), 1) if isinstance(op, MoE)]
    assert [op.weight_bytes for op in experts] == [128 * 2 * 2688 * 1856 * 2]


def test_falcon_h1_attends_and_recurs_in_every_layer():
    names = [op.name for op in layer_operators(read("falcon-h1-34b"), Parallel(), 3)]
    assert names.index("attn") < names.index("linear_attn") < names.index("mlp_up_proj")


def nas(**first):
    """Two blocks of Llama-3.3-Nemotron-Super's kind: the usual one, and one that says something of its own."""
    usual = {"attention": {"n_heads_in_group": 8, "no_op": False}, "ffn": {"ffn_mult": 5.25, "no_op": False}}
    config = {"model_type": "nemotron-nas", "hidden_size": 8192, "num_hidden_layers": 2, "num_attention_heads": 64, "vocab_size": 128256}
    own = {"intermediate_size": None, "num_key_value_heads": None, "max_position_embeddings": 131072}
    return from_config(config | own | {"block_configs": [{**usual, **first}, usual]}, name="nas")


def test_blocks_of_nemotron_nas():
    usual, attention, mlp = nas(), 8192 * (8192 + 2 * 1024) + 8192 * 8192, 3 * 8192 * 28672
    assert usual.layer_kind(0) == usual.layer_kind(1) and usual.layer_parameters(0)["mlp"] == mlp
    without = nas(attention={"no_op": True, "n_heads_in_group": None})
    assert usual.parameters() - without.parameters() == attention + 8192  # and the norm before it
    assert without.kv_bytes_per_token() == usual.kv_bytes_per_token() / 2 == 2 * 8 * 128 * 2
    no_mlp = nas(ffn={"no_op": True, "ffn_mult": None})
    assert usual.parameters() - no_mlp.parameters() == mlp + 8192
    # vLLM, nemotron_nas.py: int(2 x 1.3125 x 8192 / 3) = 7168 = 28 x 256.
    assert nas(ffn={"no_op": False, "ffn_mult": 1.3125}).layer_kind(0).mlp_width == 7168
    two = nas(attention={"no_op": False, "n_heads_in_group": 32})
    assert two.kv_bytes_per_token() == 2 * (2 + 8) * 128 * 2
    assert rank_kv_bytes_per_token(two, Parallel(tp=2)) == 2 * (1 + 4) * 128 * 2
    with pytest.raises(ModelError, match=r"block_configs\[0\]: attention: replace_with_linear is not supported"):
        nas(attention={"no_op": False, "replace_with_linear": True})


def test_text_configs_nest_and_names_of_classes_do():
    inner = CONFIGS["gemma-3-4b"]
    model = from_config({"model_type": "gemma3", "vision_config": {"depth": 1}, "text_config": {**inner, "model_type": None}})
    assert model.parameters() == read("gemma-3-4b").parameters()
    own = {k: v for k, v in CONFIGS["nemotron-h-8b"].items() if k != "model_type"} | {"model_type": "house_name"}
    assert from_config({**own, "architectures": ["NemotronHForCausalLM"]}).parameters() == read("nemotron-h-8b").parameters()


def test_vision_models_whose_text_keys_are_flat_or_left_out():
    flat = {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944}
    flat |= {"vocab_size": 152064, "max_position_embeddings": 128000, "vision_config": {"depth": 32}}
    for model_type in ("qwen2_vl", "qwen2_5_vl"):
        model = from_config(flat | {"model_type": model_type})
        assert model.parameters() == 7_615_616_512 and not model.assumptions, "Qwen2.5-7B, which it is"
    pixtral = {"model_type": "mistral", "hidden_size": 5120, "head_dim": 128, "num_hidden_layers": 40, "vocab_size": 131072}
    pixtral |= {"num_key_value_heads": 8, "max_position_embeddings": 1024000, "sliding_window": None}
    model = from_config({"model_type": "llava", "text_config": pixtral, "vision_config": {"model_type": "pixtral"}})
    assert model.parameters() == 12_247_782_400, "Mistral-Nemo, which it is; the heads and the MLP's width are the class's defaults"
    vicuna = {"model_type": "llama", "vocab_size": 32064, "max_position_embeddings": 4096}
    assert from_config({"model_type": "llava", "text_config": vicuna}).parameters() == 6_738_415_616 + 2 * 64 * 4096
    with pytest.raises(ModelError, match="num_hidden_layers"):
        from_config(vicuna)


LLAMA = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336}
LLAMA |= {"vocab_size": 128256, "max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("scaling", "tokens"),
    [
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 32768),
        ({"type": "longrope", "factor": 4.0}, 32768),
        ({"type": "linear", "factor": 4.0}, 131072),
        ({"rope_type": "dynamic", "factor": 2}, 65536),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131072),
        ({"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}, 163840),
        ({"rope_type": "yarn", "factor": 16.0}, 32768),
        ({"rope_type": "default"}, 32768),
        ({"mrope_section": [16, 24, 24], "type": "mrope"}, 32768),
        ({"full_attention": {"rope_type": "yarn", "factor": 8.0}, "sliding_attention": {"rope_type": "default"}}, 32768),
    ],
)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_a_scaling_of_positions_reaches_as_far_as_its_rule_says(key, scaling, tokens):
    assert from_config({**LLAMA, key: scaling}, name="m").max_position_embeddings == tokens


@pytest.mark.parametrize("dtype", ["torch_dtype", "dtype"])
def test_types_have_two_keys_and_float32_is_loaded_in_half(dtype):
    assert from_config({**LLAMA, dtype: "bfloat16"}, name="m").dtype == "bf16"
    single = from_config({**LLAMA, dtype: "float32"}, name="m")
    assert single.dtype == "fp16" and single.weight_bytes() == 2 * single.parameters()


def test_absent_and_null_heads():
    whole = from_config(LLAMA, name="m")
    assert (whole.head_dim, whole.num_kv_heads) == (128, 32)
    null = from_config({**LLAMA, "head_dim": None, "num_key_value_heads": None}, name="m")
    assert null == whole


PLAIN = {**LLAMA, "model_type": "newcomer", "num_key_value_heads": 8, "hidden_act": "silu", "rms_norm_eps": 1e-5}


def test_a_plain_decoder_needs_no_reader_of_its_own():
    model = from_config({**PLAIN, "architectures": ["NewcomerForCausalLM"], "rope_theta": 1e6, "attention_bias": True}, name="m")
    same = from_config({**PLAIN, "model_type": "llama", "attention_bias": True}, name="m")
    assert model.parameters() == same.parameters() and model.kv_bytes_per_token() == same.kv_bytes_per_token()
    assert "newcomer" in model.assumptions[0] and "plain decoder" in model.assumptions[0]
    assert not same.assumptions


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_experts", 8),
        ("n_routed_experts", 64),
        ("moe_intermediate_size", 1024),
        ("mamba_d_state", 128),
        ("ssm_cfg", {"layer": "Mamba2"}),
        ("conv_L_cache", 3),
        ("linear_num_key_heads", 16),
        ("kv_lora_rank", 512),
        ("q_lora_rank", 1536),
        ("index_topk", 2048),
        ("intermediate_size_list", [1024] * 32),
        ("num_kv_shared_layers", 10),
        ("hidden_size_per_layer_input", 256),
        ("altup_num_inputs", 4),
        ("parallel_attn", True),
        ("alibi", True),
        ("is_encoder_decoder", True),
        ("cross_attention_layers", [3, 8]),
        ("hidden_act", "relu2"),
        ("hidden_act", "gelu"),
        ("block_configs", [{}]),
        ("hybrid_override_pattern", "M-*"),
        ("attn_type_list", [0, 1]),
        ("embedding_size", 128),
        ("architectures", ["BertForMaskedLM"]),
        ("sliding_window_pattern", 6),
    ],
)
def test_keys_that_suggest_other_arithmetic_are_refused(key, value):
    with pytest.raises(ModelError, match="no reader for model_type 'newcomer'") as error:
        from_config({**PLAIN, key: value}, name="m")
    assert "no plain decoder" in str(error.value) and (key in str(error.value) or "Bert" in str(error.value))
    assert "did you mean" not in str(error.value)


def test_a_plain_decoder_has_no_other_layers():
    with pytest.raises(ModelError, match="layer_types holds 'linear_attention'"):
        from_config({**PLAIN, "layer_types": ["linear_attention", "full_attention"] * 16}, name="m")


def test_keys_without_a_value_suggest_nothing():
    quiet = {"num_experts": None, "moe_layers": [], "use_mamba": False, "attention_dropout": 0.1, "router_aux_loss_coef": 0.001}
    assert from_config({**PLAIN, **quiet}, name="m").parameters() > 0
