"""A model architecture from a Hugging Face `config.json`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from simserve.errors import ModelError, nearest
from simserve.files.words import clipped
from simserve.model.architecture import ModelArchitecture
from simserve.model.config_file import Config, read_json
from simserve.model.context_length import context_length
from simserve.model.families import ARCHITECTURES, FAMILIES
from simserve.model.generic_family import generic
from simserve.model.matrices import layer_matrices
from simserve.model.quantisation import ComputeDtype, Quantisation
from simserve.model.quantisation_config import read_quantisation

# Engines load float32 checkpoints in half precision (vLLM `--dtype auto`).
_DTYPES: dict[str, ComputeDtype] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp16",
    "float": "fp16",
    "auto": "bf16",
}

# Where vision-language configurations keep their language model; `kimi_k2` etc. then name the decoder.
_TEXT_SECTIONS = ("text_config", "language_config", "llm_config", "thinker_config")

_CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "mistral": {"vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"num_key_value_heads": 8},
}
"""What transformers leaves out of a nested section, because it is the default of its configuration class: LLaVA's and Pixtral's files
lack keys that a file of the language model alone has."""

_PREDICTION_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
"""Multi-token-prediction layers: DeepSeek, GLM and MiMo; Qwen; MiniMax."""


def from_config(source: str | Path | dict[str, Any], name: str | None = None) -> ModelArchitecture:
    """The architecture in a `config.json` (its path, the directory that holds it, or its content).

    A nested `text_config` is followed and the vision part left out; `quantization_config`, or NVIDIA's `hf_quant_config.json`
    beside the file, sets the weight formats. Raises ModelError naming the file and what is missing, of the wrong type or unsupported.
    """
    path: Path | None = None
    if isinstance(source, dict):
        outer = Config(source, name or "model configuration")
    else:
        path = Path(source)
        if path.is_dir():
            path = path / "config.json"
        outer = read_json(path)
    inner = _language_model(outer)
    family, fields = _fields(inner)
    if outer is not inner and outer.has("tie_word_embeddings"):
        fields["tie_word_embeddings"] = outer.flag("tie_word_embeddings")
    layers = fields["num_layers"]
    for column, filler in (("layer_windows", 0), ("moe_layers", False), ("linear_layers", False)):
        value = fields.get(column, filler)
        fields[column] = value if isinstance(value, tuple) else (value,) * layers
    # A window as long as the model's context never cuts anything.
    fields["layer_windows"] = tuple(0 if w >= fields["max_position_embeddings"] else w for w in fields["layer_windows"])
    model = ModelArchitecture(
        name=name
        or (path.absolute().parent.name if path is not None and path.name == "config.json" else path.stem if path is not None else family),
        family=family,
        dtype=_dtype(inner, outer),
        notes=_notes(outer, inner),
        **{"mtp_layers": 0} | fields | ({"mtp_layers": predicted} if (predicted := _predicted(inner)) else {}),
    )
    kinds = {model.layer_kind(layer) for layer in range(layers)}
    matrices = sorted({matrix.field for kind in kinds for matrix in layer_matrices(model, kind)})
    return replace(model, quantisation=_quantisation(outer, inner, path, layers, matrices))


def _fields(config: Config) -> tuple[str, dict[str, Any]]:
    """The family and its fields: by `model_type`, by a class in `architectures` that computes the same, or as a plain decoder."""
    family = config.text("model_type")
    classes = [entry for entry in config.items("architectures") if isinstance(entry, str)]
    known = family if family in FAMILIES else next((ARCHITECTURES[entry] for entry in classes if entry in ARCHITECTURES), None)
    if known is None and not family:
        raise ModelError(f"{config.where}: key 'model_type' is missing, so the architecture is unknown")
    if known is not None:
        fields = FAMILIES[known](config)
    else:
        try:
            fields = generic(config, family)
        except ModelError as error:
            made = f" (architectures: {clipped(', '.join(classes))})" if classes else ""
            raise ModelError(
                f"{config.where}: no reader for model_type '{clipped(family)}'{made}, and {error}. Readers: {', '.join(sorted(FAMILIES))}"
            ) from None
    fields["max_position_embeddings"] = context_length(config, fields["max_position_embeddings"])
    return family or str(known), fields


def _language_model(outer: Config) -> Config:
    for key in _TEXT_SECTIONS:
        section = outer.section(key)
        if section is not None:
            if not section.has("model_type"):
                section.values = section.values | {"model_type": f"{outer.text('model_type')}_text"}
            section.values = _CLASS_DEFAULTS.get(section.text("model_type"), {}) | section.values
            return _language_model(section) if key == "thinker_config" else section
    return outer


def _dtype(inner: Config, outer: Config) -> ComputeDtype:
    found = inner.text("torch_dtype") or inner.text("dtype") or outer.text("torch_dtype") or outer.text("dtype")
    found = found.removeprefix("torch.") or "auto"
    if found not in _DTYPES:
        raise ModelError(f"{inner.where}: torch_dtype '{clipped(found)}' is not supported{nearest(clipped(found), _DTYPES)}")
    return _DTYPES[found]


def _quantisation(outer: Config, inner: Config, path: Path | None, layers: int, matrices: list[str]) -> Quantisation:
    for config in (outer, inner):
        section = config.section("quantization_config") or config.section("compression_config")
        if section is not None:
            return read_quantisation(section, layers, matrices)
    if path is not None and (path.parent / "hf_quant_config.json").is_file():
        section = read_json(path.parent / "hf_quant_config.json").section("quantization")
        if section is not None:
            return read_quantisation(section, layers, matrices)
    return Quantisation()


def _predicted(inner: Config) -> int:
    return sum(inner.integer(key, default=0, minimum=0) for key in _PREDICTION_LAYERS)


def _notes(outer: Config, inner: Config) -> tuple[str, ...]:
    notes = []
    if outer.has("vision_config"):
        notes.append("vision tower excluded: text decoder only")
    if _predicted(inner) or inner.flag("use_mtp"):
        notes.append("multi-token-prediction layers excluded")
    section = outer.section("quantization_config") or inner.section("quantization_config")
    if section is not None and section.has("kv_cache_scheme"):
        notes.append("the checkpoint carries scales for an fp8 KV cache; it is used only when the engine is told so")
    return tuple(notes)
