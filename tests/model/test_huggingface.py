"""Reading config.json files: real ones, and broken ones."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from simserve.errors import ModelError
from simserve.model import Parallel, from_config, layer_groups, layer_operators, load_model, model_ids, model_names, rank_weight_bytes

SHARED = Path(__file__).parents[2].parent / "shared" / "model_configs"
REAL = sorted(SHARED.glob("*.json"))

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "torch_dtype": "float16",
}


def shared_config(name):
    if not REAL:
        pytest.skip(f"no real model configurations in {SHARED}")
    return SHARED / name


@pytest.mark.shared
@pytest.mark.parametrize("path", REAL or [None], ids=lambda p: p.stem if p else "absent")
def test_every_real_config_is_read(path):
    if path is None:
        pytest.skip(f"no real model configurations in {SHARED}")
    model = from_config(path)
    assert model.parameters() > 5e8
    assert sum(count for _, count in layer_groups(model)) == model.num_layers
    assert all(layer_operators(model, Parallel(), first) for first, _ in layer_groups(model))
    assert rank_weight_bytes(model, Parallel()) == pytest.approx(model.weight_bytes(), rel=1e-3)


@pytest.mark.shared
@pytest.mark.parametrize("name", model_names())
def test_bundled_facts_equal_the_real_config(name):
    """Where the publisher's file is at hand, the bundled model is the same in every field."""
    if not REAL:
        pytest.skip(f"no real model configurations in {SHARED}")
    by_id = {path.stem.replace("--", "/"): path for path in REAL}
    for hub_id in model_ids(name):
        # NVIDIA keeps the weight format in a second file, which is not beside this one.
        if hub_id not in by_id or hub_id.startswith("nvidia/"):
            continue
        real, bundled = from_config(by_id[hub_id]), load_model(hub_id)
        for field in fields(real):
            if field.name not in ("name", "notes", "family"):
                assert getattr(real, field.name) == getattr(bundled, field.name), f"{hub_id}: {field.name}"


@pytest.mark.shared
def test_quantisation_of_real_checkpoints():
    assert from_config(shared_config("Qwen--Qwen3-32B-FP8.json")).quantisation.name == "fp8_block128"
    assert from_config(shared_config("Qwen--Qwen3-32B-FP8-Static-PerTensor.json")).quantisation.name == "fp8"
    assert from_config(shared_config("openai--gpt-oss-20b.json")).quantisation.name == "w4a16_mxfp4 (experts)"
    assert from_config(shared_config("moonshotai--Kimi-K2.5.json")).quantisation.name == "w4a16_int4 (experts)"
    assert from_config(shared_config("Qwen--Qwen3-8B.json")).quantisation.name == "none"


def test_defaults_of_a_minimal_llama():
    model = from_config(LLAMA, name="mine")
    assert model.parameters() == load_model("llama-2-7b").parameters()
    assert (model.name, model.head_dim, model.num_kv_heads, model.dtype) == ("mine", 128, 32, "fp16")


def test_nested_text_config_is_followed_and_vision_noted():
    model = from_config({"model_type": "pixtral_like", "text_config": LLAMA, "vision_config": {"depth": 3}})
    assert model.parameters() == load_model("llama-2-7b").parameters()
    assert any("vision" in note for note in model.notes)


def test_a_directory_and_nvidias_second_file(tmp_path):
    folder = tmp_path / "Llama-FP8"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    assert load_model(str(folder)).quantisation.name == "none"
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}))
    model = load_model(str(folder))
    assert model.quantisation.name == "fp8"
    assert model.name == "Llama-FP8"


@pytest.mark.parametrize(
    ("quantisation", "method"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block128"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "w4a16_int4"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, "w4a16_int4"),
        ({"quant_method": "gptq", "bits": 8}, "w8a16_int8"),
        ({"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}, "input_activations": {"num_bits": 8}}}}, "w8a8_int8"),
        ({"config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int"}}}}, "w8a16_int8"),
    ],
)
def test_quantisation_methods(quantisation, method):
    assert from_config({**LLAMA, "quantization_config": quantisation}).quantisation.attention == method


def test_modules_left_out_of_quantisation_keep_their_type():
    listed = {"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "re:.*self_attn.*"]}
    quantisation = from_config({**LLAMA, "quantization_config": listed}).quantisation
    assert (quantisation.attention, quantisation.mlp) == ("none", "fp8")
    # `gate` is the router; `gate_proj` is another module.
    routed = {"quant_method": "fp8", "modules_to_not_convert": ["gate"]}
    assert from_config({**LLAMA, "quantization_config": routed}).quantisation.mlp == "fp8"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "lama", "num_experts": 8}, "no reader for model_type 'lama', and it is no plain decoder"),
        ({"model_type": None}, "'model_type' is missing"),
        ({"num_hidden_layers": None}, "'num_hidden_layers' is missing (also known as n_layer, num_layers)"),
        ({"hidden_size": "4096"}, "hidden_size is '4096', it must be an integer"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"hidden_size": True}, "hidden_size is true"),
        ({"num_hidden_layers": 10**9}, "at most 10000"),
        ({"num_key_value_heads": 5}, "not a multiple of num_kv_heads 5"),
        ({"torch_dtype": "float8"}, "torch_dtype 'float8' is not supported"),
        ({"tie_word_embeddings": "yes"}, "it must be true or false"),
        ({"quantization_config": {"quant_method": "aqlm"}}, "quantisation 'aqlm' is not supported"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 64]}}, "weight_block_size [64, 64] is not supported"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 6}}, "6-bit integer weights are not supported"),
        ({"quantization_config": "fp8"}, "it must be an object"),
        ({"model_type": "mixtral"}, "'num_local_experts' is missing"),
        ({"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 9}, "a token cannot use 9 of 8 experts"),
        ({"model_type": "deepseek_v3"}, "'kv_lora_rank' is missing"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in {**LLAMA, **change}.items() if v is not None}))
    with pytest.raises(ModelError) as error:
        from_config(path)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b'{"model_type": "llama", "hidden_si', "line 1, column 25: not valid JSON"),
        (b"[1, 2]", "holds a list of 2"),
        (b"\x80\x04\x95\xff", "not a text file"),
        (b"[" * 100_000, "JSON nested too deeply"),
    ],
)
def test_broken_files(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelError) as error:
        load_model(str(path))
    assert message in str(error.value) and str(path) in str(error.value)


def test_absent_file(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_model(str(tmp_path / "config.json"))
    with pytest.raises(ModelError, match="holds no config"):
        load_model(str(tmp_path))


def test_qwen_windows_start_at_their_layer():
    windowed = {**LLAMA, "model_type": "qwen2", "use_sliding_window": True, "sliding_window": 1024, "max_window_layers": 28}
    assert from_config(windowed).layer_windows == (0,) * 28 + (1024,) * 4
    assert set(from_config({**windowed, "use_sliding_window": False}).layer_windows) == {0}


def test_a_window_longer_than_the_context_is_no_window():
    mistral = {**LLAMA, "model_type": "mistral", "sliding_window": 4096}
    assert set(from_config(mistral).layer_windows) == {0}
    assert set(from_config({**mistral, "max_position_embeddings": 32768}).layer_windows) == {4096}


def test_a_model_is_called_like_its_folder_from_within_it_too(tmp_path, monkeypatch):
    folder = tmp_path / "our-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.chdir(folder)
    assert load_model("config.json").name == load_model(str(folder)).name == "our-model"
