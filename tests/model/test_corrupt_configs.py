"""Whatever stands in a config.json, the answer is a model or one clear ModelError."""

import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import ModelError
from simserve.model import Parallel, from_config, layer_groups, layer_operators, model_names, rank_kv_bytes_per_token, rank_weight_bytes
from simserve.model.library import _library
from tests.model.recent_configs import CONFIGS as RECENT

CONFIGS = {name: _library()[name]["config"] for name in model_names()}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_corrupted_key_never_crashes(data):
    config = copy.deepcopy(CONFIGS[data.draw(st.sampled_from(sorted(CONFIGS)))])
    target = config
    if "quantization_config" in config and data.draw(st.booleans()):
        target = config["quantization_config"]
    key = data.draw(
        st.sampled_from([*sorted(target), "layer_types", "quantization_config", "text_config", "config_groups", "no_rope_layers"])
    )
    value = data.draw(json_values)
    if value is None and data.draw(st.booleans()):
        target.pop(key, None)
    else:
        target[key] = value
    try:
        model = from_config(config, name="corrupted")
    except ModelError as error:
        assert "corrupted" in str(error)
        return
    assert model.parameters() > 0 and model.weight_bytes() > 0
    assert sum(count for _, count in layer_groups(model)) == model.num_layers


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(CONFIGS)),
    st.sampled_from([1, 2, 3, 4, 8, 16]),
    st.integers(1, 8),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([1, 2, 8, 64]),
)
def test_any_layout_works_or_says_why_not(name, tp, pp, dp, ep):
    model, parallel = from_config(CONFIGS[name], name=name), Parallel(tp, pp, dp, ep)
    try:
        rank = rank_weight_bytes(model, parallel)
    except ModelError as error:
        assert name in str(error) or "parallel" in str(error)
        return
    # All devices together hold at least one copy of everything, and no rank more than the whole model and its padding.
    assert rank * parallel.devices >= model.weight_bytes() * 0.999
    assert rank <= model.weight_bytes() * 1.01
    assert rank_kv_bytes_per_token(model, parallel) * tp * pp >= model.kv_bytes_per_token() * 0.999
    for layer in range(0, model.num_layers, 7):
        for operator in layer_operators(model, parallel, layer):
            assert all(
                value > 0 for field in ("n", "k", "q_heads", "kv_heads", "width") if (value := getattr(operator, field, 1)) is not None
            )


# ---- every key of every family, with every kind of wrong value ----

QUANTISED = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": True, "lm_head": True}
    | {"dynamic": {"-:.*self_attn.*": {}, "+:.*down_proj.*": {"bits": 8, "group_size": 32}}},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "modules_to_not_convert": ["visual", "lm_head"]},
    "auto-round": {
        "quant_method": "auto-round",
        "bits": 4,
        "group_size": 128,
        "data_type": "int",
        "extra_config": {".*k_proj": {"bits": 8}},
    },
    "bitsandbytes": {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_use_double_quant": True,
        "llm_int8_skip_modules": ["x"],
    },
    "torchao": {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}}},
    "torchao-modules": {"quant_method": "torchao"}
    | {"quant_type": {"default": {"_type": "FqnToConfig", "_data": {"fqn_to_config": {"_default": {"_type": "Int8WeightOnlyConfig"}}}}}},
    "quark": {"quant_method": "quark", "exclude": ["lm_head"], "layer_quant_config": {"*k_proj": {"weight": {"dtype": "int8"}}}}
    | {"global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}, "input_tensors": {"dtype": "fp8_e4m3"}}},
    "modelopt": {
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {"model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4", "group_size": 16}},
    },
    "hqq": {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}, "skip_modules": ["lm_head"]},
    "compressed": {
        "quant_method": "compressed-tensors",
        "ignore": ["lm_head", "re:.*self_attn.*", "model.layers.1.mlp"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128], "symmetric": True},
                "input_activations": {"num_bits": 8, "type": "float"},
            }
        },
    },
}
BLOCK = {"attention": {"n_heads_in_group": 8, "no_op": False, "window_length": None}, "ffn": {"ffn_mult": 5.25, "no_op": False}}
NAS = {"model_type": "nemotron-nas", "hidden_size": 512, "num_hidden_layers": 3, "num_attention_heads": 64, "vocab_size": 1000}
NAS |= {"max_position_embeddings": 4096, "intermediate_size": None, "num_key_value_heads": None, "block_configs": [BLOCK, BLOCK, BLOCK]}
PLAIN = {"model_type": "newcomer", "hidden_size": 512, "num_hidden_layers": 3, "num_attention_heads": 8, "vocab_size": 1000}
PLAIN |= {"max_position_embeddings": 4096, "intermediate_size": 1024, "num_key_value_heads": 4, "head_dim": 64, "hidden_act": "silu"}
PLAIN |= {
    "layer_types": ["full_attention"] * 3,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
}
PLAIN |= {"sliding_window": 512, "tie_word_embeddings": True, "architectures": ["NewForCausalLM"], "torch_dtype": "bfloat16"}

FAMILY_OF = {config["model_type"]: name for name, config in CONFIGS.items()}
WHOLE = {name: CONFIGS[name] for name in FAMILY_OF.values()} | RECENT | {"nas": NAS, "plain": PLAIN}
WHOLE |= {f"plain in {name}": {**PLAIN, "quantization_config": config} for name, config in QUANTISED.items()}
WHOLE |= {"nested": {"model_type": "outer", "tie_word_embeddings": True, "vision_config": {"depth": 1}, "text_config": PLAIN}}

DEEP: list = []
for _ in range(300):
    DEEP = [DEEP]
ABSENT = object()
WRONG = [ABSENT, None, True, False, 0, 1, -1, 3, 1.5, -0.5, 2**31, 10**30, 10**400, float("nan"), float("inf"), 5e-324, 1e308]
WRONG += ["", "x", "M", "9" * 20_000, "\x00\n", [], [None], [{}], ["x"] * 3, [3] * 3, [[1]], DEEP, {}, {"x": {}}, {"x": [1]}, {"x": DEEP}]


def places(config, path=()):
    for key, value in config.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from places(value[0], (*path, key, 0))


def changed(config, path, value):
    out = copy.deepcopy(config)
    target = out
    for key in path[:-1]:
        target = target[key]
    if value is ABSENT:
        target.pop(path[-1])
    else:
        target[path[-1]] = value
    return out


@pytest.mark.parametrize("name", WHOLE)
def test_no_wrong_value_anywhere_is_more_than_an_error(name):
    for path in places(WHOLE[name]):
        for value in WRONG:
            answers_or_says_why(changed(WHOLE[name], path, value))


def answers_or_says_why(config):
    try:
        model = from_config(config, name="mutated")
        numbers = [model.parameters(), model.active_parameters(), model.weight_bytes(), model.kv_bytes_of_sequence(5000)]
        numbers += [model.recurrent_state_bytes(), model.flops_per_token(), model.attention_flops_per_pair()]
        if model.num_layers <= 200:
            for parallel in (Parallel(), Parallel(tp=2)):
                numbers += [rank_weight_bytes(model, parallel), rank_kv_bytes_per_token(model, parallel)]
    except ModelError as error:
        assert len(str(error)) < 3000 and "mutated" in str(error)
        return
    assert all(number >= 0 and math.isfinite(number) for number in numbers)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"model_type": "llama", "hidden_size": ' + "9" * 400 + "}", "digits"),
        ('{"model_type": ' + "[" * 5000 + "]" * 5000 + "}", "nested too deeply"),
        ('{"model_type": "llama", "model_type": "opt"}', "given twice"),
        ("\x00", "config.json"),
        ("{} {}", "line 1, column 4"),
        ("NaN", "is an object"),
        ("[]", "is an object"),
        ('"' + "x" * 100_000 + '"', "is an object"),
    ],
    ids=["digits", "nesting", "twice", "null character", "more text", "number", "list", "string"],
)
def test_files_that_are_no_configuration(tmp_path, text, said):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelError) as error:
        from_config(path)
    assert said in str(error.value) and len(str(error.value)) < 600
