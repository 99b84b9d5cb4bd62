"""How wrong the simulator was on measured runs of an engine, a device and a model: shipped with every result."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "accuracy.yaml"


def accuracy_of(engine: str, hardware: str, model: str) -> dict[str, Any] | None:
    """Measured errors of this combination, None when it has not been compared ("not validated").

    engine, hardware, model  names of an engine profile, a hardware profile and a bundled model (or an id of it)
    The answer has `rows`, `datasets`, `weights` (the formats that were measured, `Quantisation.name`) and `metrics`: metric ->
    {rows, mape_percent, median_percent}, errors of rows that no overhead was learned from where there are such rows (`held_out` says so).
    """
    return _entry(engine, hardware, _plain(model))


@lru_cache(maxsize=256)
def _entry(engine: str, hardware: str, model: str) -> dict[str, Any] | None:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    names = {"engine": engine, "hardware": hardware, "model": model}
    for text in _texts():
        if all(name in text for name in names.values()):  # the whole file takes as long to read as the rest of a short run
            (entry,) = yaml.load(text, Loader=loader)
            if all(entry[key] == name for key, name in names.items()):
                return {key: value for key, value in entry.items() if key not in names}
    return None


@lru_cache(maxsize=1)
def _texts() -> tuple[str, ...]:
    """The text of each combination: a list of one, as it stands in the file."""
    _, *entries = re.split(r"^(?=- )", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE) if FILE.is_file() else [""]
    return tuple(entries)


def _plain(model: str) -> str:
    from simserve.errors import ModelError
    from simserve.model import load_model

    try:
        return load_model(model).name
    except ModelError:
        return model
