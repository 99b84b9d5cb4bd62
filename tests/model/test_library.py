"""Finding models by name, id or path."""

import json
import subprocess
import sys

import pytest

from simserve.errors import ModelError
from simserve.model import load_model, model_ids, model_names
from simserve.model.alike import alike

ASKED = {
    "opt-13b",
    "opt-66b",
    "opt-175b",
    "llama-2-7b",
    "llama-2-13b",
    "llama-2-70b",
    "llama-3.1-8b",
    "llama-3.1-70b",
    "llama-3.1-405b",
    "mistral-7b",
    "mistral-nemo",
    "yi-34b",
    "falcon-180b",
    "codellama-34b",
    "qwen2-7b",
    "qwen2.5-7b",
    "qwen2.5-14b",
    "qwen2.5-32b",
    "qwen2.5-72b",
    "qwen3-8b",
    "qwen3-14b",
    "qwen3-32b",
    "qwen3-30b-a3b",
    "qwen3-235b-a22b",
    "mixtral-8x7b",
    "mixtral-8x22b",
    "deepseek-v3",
    "deepseek-r1",
    "gpt-oss-20b",
    "gpt-oss-120b",
}


def test_the_promised_models_are_bundled():
    assert set(model_names()) >= ASKED


@pytest.mark.parametrize("name", model_names())
def test_every_name_and_id_loads_whatever_its_case(name):
    for spelling in (name, name.upper(), *model_ids(name), *(i.lower() for i in model_ids(name))):
        assert load_model(spelling).name == name


def test_a_path_is_looked_up_beside_the_experiment(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    (tmp_path / "models" / "tiny.json").write_text(json.dumps({**config, "vocab_size": 100, "max_position_embeddings": 64}))
    assert load_model("models/tiny.json", base_dir=tmp_path).name == "tiny"
    monkeypatch.chdir(tmp_path)
    assert load_model("models/tiny.json").num_layers == 2


def test_unknown_names_get_the_nearest():
    with pytest.raises(ModelError, match=r"unknown model 'lama-2-7b'.*did you mean 'llama-2-7b'"):
        load_model("lama-2-7b")
    with pytest.raises(ModelError, match="did you mean 'qwen3-32b'"):
        load_model("vendor/Qwenn3-32B")
    with pytest.raises(ModelError, match="unknown model ''"):
        load_model("")


@pytest.mark.parametrize(
    ("word", "means"),
    [
        ("llama3", ["llama-3-8b", "llama-3-70b"]),
        ("llama-3.1", ["llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b"]),
        ("Meta-Llama-3.1-8B-Instruct-AWQ-INT4", ["llama-3.1-8b", "llama-3.1-8b-fp8"]),
        ("mistral-7b-instruct-v0.3", ["mistral-7b-v0.3", "mistral-7b", "mistral-7b-v0.2"]),
        ("mistral-8x7b", ["mixtral-8x7b"]),
        ("gptoss-20b", ["gpt-oss-20b"]),
        ("qwen3-30b", ["qwen3-30b-a3b", "qwen3-30b-a3b-2507", "qwen3-30b-a3b-fp8"]),
        ("qwen3-next", ["qwen3-next-80b-a3b"]),
        *((word, []) for word in ("gpt-4", "phi-4", "glm-4", "deepseek-v4", "deepseek-r1-distill-llama-8x7b", "seed_oss")),
    ],
)
def test_a_hint_is_the_same_model_and_not_the_nearest_spelling(word, means):
    assert alike(word, model_names()) == means


def test_a_file_of_weights_is_no_model():
    with pytest.raises(ModelError, match=r"file of weights; a model is the config\.json beside it"):
        load_model("llama-3.1-8b-Q4_K_M.gguf")


def test_quantisation_can_be_chosen():
    assert load_model("qwen3-8b", quantisation="w8a8_int8").quantisation.name == "w8a8_int8"
    assert load_model("qwen3-8b-fp8", quantisation="none").weight_bytes() == load_model("qwen3-8b").weight_bytes()
    with pytest.raises(ModelError, match=r"unknown quantisation 'fp9'\. Allowed: .*fp8"):
        load_model("qwen3-8b", quantisation="fp9")


def test_models_hash_and_are_loaded_once():
    assert load_model("llama-2-7b") is load_model("meta-llama/Llama-2-7b-hf")
    assert len({load_model("llama-2-7b"), load_model("llama-2-7b"), load_model("llama-2-13b")}) == 2


def test_importing_is_light():
    code = "import sys, simserve.model; print([m for m in ('pandas', 'scipy', 'matplotlib', 'torch', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
