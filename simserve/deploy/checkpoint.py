"""The checkpoint to serve: a name that an engine downloads, for a model that an experiment names by its architecture."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from simserve.errors import ModelError, SimserveError
from simserve.files.json_text import read_json
from simserve.model.library import model_ids

_TUNED = ("instruct", "-it", "chat", "thinking")
"""Words in the names of checkpoints that answer users, and not only continue texts."""


class Checkpoint(NamedTuple):
    """name: as engines take it, None where it is not known; note: what to say of it."""

    name: str | None
    note: str = ""


def checkpoint(model: str, base_dir: Path) -> Checkpoint:
    """The checkpoint of `model`, which is a bundled name, a Hugging Face id, or a path to a config.json."""
    try:
        ids = model_ids(model)
    except ModelError:
        return _named(model, base_dir)
    if not ids:
        return Checkpoint(None, f"no public checkpoint of {model} is known: state one (--model-name)")
    tuned = [one for one in ids if any(word in one.lower() for word in _TUNED)]
    chosen = (tuned or list(ids))[0]
    if len(ids) == 1:
        return Checkpoint(chosen)
    return Checkpoint(chosen, f"{chosen} is one of {len(ids)} checkpoints with the architecture of {model}; --model-name states another")


def _named(model: str, base_dir: Path) -> Checkpoint:
    path = next((p for p in (base_dir / model, Path(model)) if p.exists()), None)
    if path is None:
        return Checkpoint(model)  # a Hugging Face id, which the experiment was read with
    said = ""
    config = path / "config.json" if path.is_dir() else path
    try:
        content = read_json(config, ModelError)
        said = str(content.get("_name_or_path") or "") if isinstance(content, dict) else ""
    except SimserveError:
        said = ""
    if "/" in said and not said.startswith(("/", ".", "~")):
        return Checkpoint(said, f"{said} is what {config.name} says of itself (_name_or_path)")
    return Checkpoint(None, f"{config.name} does not say which checkpoint it belongs to: state its name or folder (--model-name)")
