"""Models by name: the bundled ones, or any `config.json`."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import ModelError, did_you_mean, nearest
from simserve.files.words import clipped
from simserve.model.architecture import ModelArchitecture
from simserve.model.huggingface import from_config
from simserve.model.name_words import parse
from simserve.model.quantisation import Quantisation

if TYPE_CHECKING:
    from simserve.model.resolve import Names, Resolved

_CONFIGS = Path(__file__).parent / "configs"

_WEIGHTS = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".onnx", ".ggml")
"""Files of weights, which are not read."""


def model_names() -> list[str]:
    """The names of the bundled models, sorted."""
    return sorted(_library())


def model_ids(name: str) -> tuple[str, ...]:
    """The Hugging Face ids that stand for a bundled model. Raises ModelError for an unknown name."""
    if name not in _library():
        raise ModelError(f"unknown model '{name}'{nearest(name, model_names())}")
    return tuple(_library()[name].get("ids", ()))


def load_model(name_or_path: str | Path, base_dir: Path | None = None, quantisation: str | None = None) -> ModelArchitecture:
    """A bundled model (by name or Hugging Face id, case does not matter), the one in a `config.json` or its directory, or the bundled one
    that another name stands for (a revision, a quantised copy, another vendor: docs/models.md); `taken` then says which.

    base_dir      relative paths are looked up here first (the experiment's directory), then in the working directory.
    quantisation  stores every linear layer of the model in this format (`QUANT_METHODS`) instead of the checkpoint's: `none`, `fp8`,
                  `fp8_block128`, `w8a8_int8`, `w4a16_int4` (4-bit weights, 16-bit activations), `w4a4_nvfp4`, `bf16_2of4` (2:4 sparse) ...
    Raises ModelError with the nearest right name, or naming what the configuration lacks.
    """
    wanted = str(name_or_path)
    name = None if isinstance(name_or_path, Path) else _names().get(wanted.lower())
    if name is not None:
        model = _listed(name, wanted, quantisation is None)
    else:
        path = _existing_path(wanted, base_dir)
        found = None if path or isinstance(name_or_path, Path) else _index().resolve(wanted)
        if path is None and found is None:
            raise ModelError(_unknown(wanted, base_dir))
        model = from_config(path) if path else _resolved(wanted, found, quantisation is None)
    if quantisation is None:
        return model
    return replace(model, quantisation=Quantisation.uniform(quantisation))


@lru_cache(maxsize=256)
def _listed(name: str, wanted: str, formats: bool) -> ModelArchitecture:
    """A model by its name or an id of its list; `taken` where the id is that of another model, which shares the architecture."""
    model, own, told = _bundled(name), parse(name), parse(wanted)
    if own is None or told is None or set(own.identity) <= set(told.identity) or set(told.identity) <= set(own.identity):
        return model
    return _said(model, wanted, formats)


@lru_cache(maxsize=256)
def _resolved(wanted: str, found: Resolved, formats: bool) -> ModelArchitecture:
    model = _bundled(found.name)
    if formats:
        from simserve.model.resolve import stored_as

        stored = stored_as(model.quantisation, found.method, found.group, model.experts is not None)
        model = replace(model, quantisation=stored)
    return _said(model, wanted, formats)


def _said(model: ModelArchitecture, wanted: str, formats: bool) -> ModelArchitecture:
    """The model with a sentence on what a name was taken for; `formats`: the weight format is not overridden."""
    size = f"{model.parameters() / 1e9:.1f} billion parameters"
    if model.experts is not None:
        size += f", {model.active_parameters() / 1e9:.1f} active"
    told = parse(wanted)
    whence = "as its checkpoint has them" if told is None or told.stored.method is None else "from the name"
    stored = model.dtype if model.quantisation.name == "none" else model.quantisation.name
    weights = f", weights {stored} {whence}" if formats else ""
    return replace(model, taken=f"The model '{wanted}' is taken as the bundled {model.name} ({model.family}, {size}){weights}.")


def _existing_path(wanted: str, base_dir: Path | None) -> Path | None:
    if wanted.lower().endswith(_WEIGHTS):
        raise ModelError(f"'{clipped(wanted)}' is a file of weights; a model is the config.json beside it, or a bundled name")
    given = Path(wanted).expanduser()
    candidates = [given] if base_dir is None else [base_dir / given, given]
    for candidate in candidates if wanted else []:
        if candidate.is_file() or (candidate / "config.json").is_file():
            return candidate
        if candidate.is_dir():
            raise ModelError(f"directory {candidate} holds no config.json")
    if wanted.endswith(".json") or wanted.startswith((".", "/", "~")):
        raise ModelError(f"model configuration {_looked(wanted, base_dir)} does not exist")
    return None


def _looked(wanted: str, base_dir: Path | None) -> str:
    given = Path(wanted).expanduser()
    return " or ".join(str(c) for c in ([given] if base_dir is None else [base_dir / given, given]))


def _unknown(wanted: str, base_dir: Path | None) -> str:
    word = wanted.rsplit("/", 1)[-1].lower()
    return f"unknown model '{wanted}' (not a bundled name, and no config.json at {_looked(wanted, base_dir)}){_alike(word)}"


def _alike(word: str) -> str:
    """A tail for an error message: the models that the name may mean, and all names. Another version or size computes otherwise."""
    from simserve.model.alike import alike

    return f"{did_you_mean(alike(word, model_names()))} Allowed: {', '.join(model_names())}, or a path to a config.json"


@lru_cache(maxsize=256)
def _bundled(name: str) -> ModelArchitecture:
    return from_config(_library()[name]["config"], name=name)


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    """Every spelling in lower case -> bundled name."""
    spellings = {name: name for name in _library()}
    for name, entry in _library().items():
        for hub_id in entry.get("ids", ()):
            if spellings.setdefault(hub_id.lower(), name) != name:
                raise AssertionError(f"{hub_id} stands for two bundled models")
    return spellings


@lru_cache(maxsize=1)
def _index() -> Names:
    """The bundled models by what their names say. A copy has a base and a format in its name."""
    from simserve.model.resolve import Entry, Names

    entries = []
    for name, entry in _library().items():
        told = parse(name)
        copied = told is not None and told.stored.method is not None
        entries.append(Entry(name, tuple(entry.get("ids", ())), entry.get("base", "") if copied else "", entry["fp8"]))
    return Names.of(entries)


@lru_cache(maxsize=1)
def _library() -> dict[str, dict[str, Any]]:
    """Bundled entries with their full configuration: the family's defaults, then the base model's keys, then their own. `fp8` is how the
    publisher stores the copies whose names end in -FP8."""
    library: dict[str, dict[str, Any]] = {}
    for file in sorted(_CONFIGS.glob("*.json")):
        family = json.loads(file.read_text(encoding="utf-8"))
        for name, entry in family["models"].items():  # a base stands before what builds on it
            base = library[entry["base"]] if "base" in entry else {"config": family["defaults"], "fp8": "fp8"}
            library[name] = {"fp8": base["fp8"], **entry, "config": {**base["config"], **entry.get("config", {})}}
    return library
