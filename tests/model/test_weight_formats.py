"""Bytes of quantised checkpoints by hand from their formats' specifications, and rules by module name as checkpoints write them."""

import pytest

from simserve.errors import ModelError
from simserve.model import Parallel, from_config, head_operators, layer_groups, layer_operators, load_model, rank_weight_bytes
from simserve.model.operators import Gemm
from simserve.model.quantisation_rules import Patterns
from simserve.model.weight_format import WeightFormat

LLAMA = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
LLAMA |= {"intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072, "torch_dtype": "bfloat16"}
ATTENTION, UP, DOWN = 2 * 4096 * 4096 + 2 * 4096 * 1024, 2 * 4096 * 14336, 4096 * 14336
LINEAR, HEAD = 32 * (ATTENTION + UP + DOWN), 128256 * 4096
OUTSIDE = 2 * (2 * HEAD + 65 * 4096)
"""Embedding, LM head and norms in 2 bytes."""


def quantised(**config):
    return from_config({**LLAMA, "quantization_config": config}, name="llama8b")


def group(bits, kind="int", inputs=None, **weights):
    found = {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, **weights}}
    return found if inputs is None else {**found, "input_activations": {"num_bits": inputs, "type": weights.pop("input_kind", kind)}}


def compressed(one, **more):
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": one}, "ignore": ["lm_head"], **more}


# Bits a weight with scales: NVFP4 1-byte scale for 16 (arXiv 2509.25149), MXFP4 for 32 (OCP MX v1.0), nf4 a float32 for 64 (arXiv
# 2305.14314), nested 8-bit ones with a float32 for 256 of them; int4 of groups of 128 a 2-byte scale, AWQ a 4-bit zero point besides.
@pytest.mark.parametrize(
    ("config", "method", "bits"),
    [
        ({"quant_method": "fp8"}, "fp8", 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block128", 8 + 32 / 128**2),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "w4a16_int4", 4 + 16 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "w4a16_int4", 4 + 16 / 32),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": False}, "w4a16_int4", 4 + 20 / 128),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "w4a16_int4", 4),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, "w8a16_int8", 8 + 16 / 128),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "w3a16_int3", 3 + 16 / 128),
        ({"quant_method": "gptq", "bits": 2, "group_size": 64}, "w2a16_int2", 2 + 16 / 64),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "w4a16_int4", 4 + 20 / 128),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "w4a16_int4", 4 + 20 / 64),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}, "w4a16_int4", 4 + 16 / 128),
        ({"quant_method": "auto-round", "bits": 2, "group_size": 32}, "w2a16_int2", 2 + 16 / 32),
        ({"quant_method": "auto-round", "bits": 4, "data_type": "mx_fp", "act_bits": 4}, "w4a4_mxfp4", 4 + 8 / 32),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "w4a16_nf4", 4 + 32 / 64),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
            "w4a16_nf4",
            4 + 8 / 64 + 32 / 64 / 256,
        ),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "llm_int8", 8),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "w4a16_int4", 4 + 32 / 128),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only", "quant_type_kwargs": {"group_size": 32}}, "w4a16_int4", 5),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig", "_data": {}}}}, "w8a16_fp8", 8),
        ({"quant_method": "torchao", "quant_type": "int8_dynamic_activation_int8_weight"}, "w8a8_int8", 8),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, "w4a16_int4", 4.5),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}, "w8a16_fp8", 8),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}, "input_tensors": {"dtype": "fp8_e4m3"}}},
            "fp8",
            8,
        ),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {
                    "weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32},
                    "input_tensors": {"dtype": "fp4"},
                },
            },
            "w4a4_mxfp4",
            4 + 8 / 32,
        ),
        (compressed(group(4, "float", 4, group_size=16, strategy="tensor_group")), "w4a4_nvfp4", 4 + 8 / 16),
        (compressed(group(4, "float", group_size=16)), "w4a16_nvfp4", 4 + 8 / 16),
        (compressed(group(4, "float", group_size=32)), "w4a16_mxfp4", 4 + 8 / 32),
        (compressed(group(4, "float", 4, group_size=32)), "w4a4_mxfp4", 4 + 8 / 32),
        (compressed(group(8, "float", 8, group_size=32)), "w8a8_mxfp8", 8 + 8 / 32),
        (compressed(group(8, "float", 8, strategy="channel")), "fp8", 8),
        (compressed(group(8, "float", 8, strategy="block", block_structure=[128, 128])), "fp8_block128", 8 + 32 / 128**2),
        (compressed(group(8, "float", strategy="channel")), "w8a16_fp8", 8),
        (compressed(group(4, "int", 8, group_size=128)), "w4a8_int4", 4 + 16 / 128),
        (compressed(group(4, "int", group_size=64, symmetric=False)), "w4a16_int4", 4 + 20 / 64),
        (compressed(group(8, "int", 8, strategy="channel")), "w8a8_int8", 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "w4a4_nvfp4", 4 + 8 / 16),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ", "group_size": 128}, "w4a8_fp8", 4 + 16 / 128),
        ({"quant_algo": "W4A16_AWQ", "group_size": 128}, "w4a16_int4", 4 + 16 / 128),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 8),
    ],
)
def test_bytes_of_each_format(config, method, bits):
    model = quantised(**config)
    assert set(model.quantisation.methods) == {method}
    assert model.weight_bytes() - OUTSIDE == pytest.approx(LINEAR * bits / 8, rel=1e-6)
    assert rank_weight_bytes(model, Parallel()) == pytest.approx(model.weight_bytes(), rel=1e-4)


def test_the_row_index_of_act_order_is_kept():
    """GPTQ's g_idx: 4 bytes for each input row of each matrix (q, k, v, o, gate, up: 4,096 rows; down: 14,336)."""
    plain, ordered = (quantised(quant_method="gptq", bits=4, group_size=128, desc_act=flag) for flag in (False, True))
    assert ordered.weight_bytes() - plain.weight_bytes() == 32 * 4 * (6 * 4096 + 14336)


def bytes_of(attention=2.0, up=2.0, down=2.0, head=2.0):
    return 32 * (attention * ATTENTION + up * UP + down * DOWN) + head * HEAD + 2 * HEAD + 2 * 65 * 4096


INT4, INT8 = 0.5 + 2 / 128, 1 + 2 / 128


def test_dynamic_rules_of_gptq():
    """GPTQModel: `-:` leaves modules out, `+:` changes their numbers; the first match counts."""
    rules = {"-:.*self_attn.*": {}, "+:.*down_proj.*": {"bits": 8}, r".*\.down_proj": {"bits": 2}}
    model = quantised(quant_method="gptq", bits=4, group_size=128, dynamic=rules)
    assert model.weight_bytes() == pytest.approx(bytes_of(up=INT4, down=INT8), rel=1e-6)
    assert model.weight_bytes() / 1e9 == pytest.approx(8.63, abs=0.01)
    formats = {op.name: op.dtype for op in layer_operators(model, Parallel(), 5) if isinstance(op, Gemm)}
    assert formats == {"attn_pre_proj": "bf16", "attn_post_proj": "bf16", "mlp_up_proj": "w4a16_int4", "mlp_down_proj": "w8a16_int8"}


def test_a_quantised_head():
    model = quantised(quant_method="gptq", bits=4, group_size=128, lm_head=True)
    assert model.weight_bytes() == pytest.approx(bytes_of(INT4, INT4, INT4, INT4), rel=1e-6)
    assert model.weight_bytes() / 1e9 == pytest.approx(4.92, abs=0.01)
    (head,) = (op for op in head_operators(model, Parallel()).output if op.name == "lm_head")
    assert head.dtype == "w4a16_int4" and head.weight_bytes == pytest.approx(HEAD * INT4, rel=1e-6)
    assert "lm_head" in model.quantisation.name
    named = compressed(group(8, "float", 8, strategy="channel") | {"targets": ["Linear", "re:.*lm_head"]}) | {"ignore": []}
    assert quantised(**named).weight_bytes() == bytes_of(1, 1, 1, 1)


def test_layers_in_an_ignore_list():
    kept = [f"model.layers.{i}.mlp.{name}_proj" for i in (0, 1, 30, 31) for name in ("gate", "up", "down")]
    for ignore in (kept, [r"re:model\.layers\.(0|1|30|31)\.mlp\..*"], [f"model.layers.{i}.mlp" for i in (0, 1, 30, 31)]):
        model = quantised(**compressed(group(8, "float", 8, strategy="channel"), ignore=["lm_head", *ignore]))
        right = bytes_of() - 32 * ATTENTION - 28 * (UP + DOWN)
        assert model.weight_bytes() == right
        assert layer_groups(model) == ((0, 4), (2, 28))
        assert rank_weight_bytes(model, Parallel()) == pytest.approx(right, rel=1e-6)
    globs = quantised(quant_method="modelopt", quant_algo="FP8", exclude_modules=["model.layers.0.mlp*", "model.layers.31.*", "lm_head"])
    assert globs.weight_bytes() == bytes_of() - 31 * ATTENTION - 30 * (UP + DOWN)
    other = quantised(quant_method="fp8", modules_to_not_convert=["language_model.model.layers.3.self_attn", "vision_tower"])
    assert other.weight_bytes() == bytes_of() - 31 * ATTENTION - 32 * (UP + DOWN)


def test_one_matrix_of_a_fused_projection_in_another_format():
    model = quantised(quant_method="fp8", modules_to_not_convert=["v_proj"])
    assert model.weight_bytes() == bytes_of(1, 1, 1) + 32 * 4096 * 1024
    fused = [(op.n, op.dtype) for op in layer_operators(model, Parallel(), 0) if op.name == "attn_pre_proj"]
    assert fused == [(5120, "fp8"), (1024, "bf16")]


def test_several_groups_of_compressed_tensors():
    groups = {
        "attention": group(8, "float", 8, strategy="channel") | {"targets": ["re:.*self_attn.*"]},
        "rest": group(4, "int", group_size=128),
    }
    model = quantised(quant_method="compressed-tensors", config_groups=groups, ignore=["lm_head"])
    assert model.weight_bytes() == pytest.approx(bytes_of(1, INT4, INT4), rel=1e-6)
    with pytest.raises(ModelError, match="2 formats for all linear layers"):
        quantised(quant_method="compressed-tensors", config_groups={"a": group(8), "b": group(4)})


def test_modules_with_an_algorithm_of_their_own():
    mlp = {
        f"model.layers.{i}.mlp.{name}_proj": {"quant_algo": "NVFP4", "group_size": 16} for i in range(32) for name in ("gate", "up", "down")
    }
    model = quantised(quant_method="modelopt", quant_algo="MIXED_PRECISION", quantized_layers=mlp | {"lm_head": {"quant_algo": "FP8"}})
    assert model.weight_bytes() == pytest.approx(bytes_of(up=0.5625, down=0.5625, head=1), rel=1e-6)
    by_module = {"_default": {"_type": "Int8WeightOnlyConfig"}, "model.layers.0.self_attn.q_proj": None}
    ao = {"default": {"_type": "ModuleFqnToConfig", "_data": {"module_fqn_to_config": by_module}}}
    assert quantised(quant_method="torchao", quant_type=ao).weight_bytes() == bytes_of(1, 1, 1) + 4096 * 4096
    extra = {"model.layers.0.mlp.down_proj": {"bits": 8}, ".*self_attn.*": {"bits": 16}}
    rounded = quantised(quant_method="auto-round", bits=4, group_size=128, extra_config=extra)
    assert rounded.weight_bytes() == pytest.approx(bytes_of(up=INT4, down=INT4) + DOWN * (INT8 - INT4), rel=1e-6)


def test_quantisation_of_layers_alike_is_one_format():
    assert quantised(quant_method="fp8").quantisation == load_model("llama-3.1-8b-fp8").quantisation
    assert WeightFormat("fp8", 64) == WeightFormat("fp8", 128)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quant_method": "gguf"}, "quantisation 'gguf' is not supported"),
        ({"quant_method": "bitsandbytes"}, "neither load_in_4bit nor load_in_8bit"),
        ({"quant_method": "gptq", "bits": 5}, "5-bit integer weights are not supported"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"+:a": 3}}, "must be an object"),
        ({"quant_method": "torchao", "quant_type": "autoquant"}, "torchao quant_type 'autoquant' is not supported"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp6"}}}, "dtype 'fp6' is not supported"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP3"}, "quant_algo 'NVFP3' is not supported"),
        (compressed(group(8, "float", 8, strategy="block", block_structure=[64, 64])), "block_structure a list of 2 is not supported"),
        (compressed(group(6, "float", 8)), "6-bit float weights"),
    ],
)
def test_what_is_not_known_is_named(config, message):
    with pytest.raises(ModelError) as error:
        quantised(**config)
    assert message in str(error.value)


@pytest.mark.parametrize("slow", ["(x+x+)+y", "(a|a?)*b", "((a+))+", "(?:.|..)*z", "(a{1,5})*", ".*" * 9])
def test_an_expression_that_matches_without_end_is_refused(slow):
    with pytest.raises(ModelError, match="repeats a repetition"):
        Patterns([f"re:{slow}"])


@pytest.mark.parametrize(
    "real", [r".*self_attn\.(q|k|v)_proj$", r"(?!.*\.(?:mlp|experts))", r"model\.layers\.(?:[0-9]|1[0-5])\..*", r".*[+*](\+)+", r"(ab)+c?"]
)
def test_expressions_of_checkpoints_are_read(real):
    assert Patterns([f"re:{real}"])


@pytest.mark.parametrize("broken", ["-:(", "[a", "(?P<x", "*a"])
def test_what_is_no_expression_is_refused_and_not_taken_for_one_that_covers_nothing(broken):
    with pytest.raises(ModelError, match="no regular expression"):
        Patterns([f"re:{broken}"])
