"""How wrong the simulator was on measured runs of an engine, a device and a model: shipped with every result."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "accuracy.yaml"


def accuracy_of(engine: str, hardware: str, model: str) -> dict[str, Any] | None:
    """Measured errors of this combination, None when it has not been compared ("not validated").

    engine, hardware, model  names of an engine profile, a hardware profile and a bundled model (or an id of it)
    The answer has `rows`, `datasets` and `metrics`: metric -> {rows, mape_percent, median_percent}, errors of rows that no overhead
    was learned from where there are such rows (`held_out` says so).
    """
    return _table().get((engine, hardware, _plain(model)))


@lru_cache(maxsize=1)
def _table() -> dict[tuple[str, str, str], dict[str, Any]]:
    import yaml

    if not FILE.is_file():
        return {}
    document = yaml.load(FILE.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    found = {}
    for entry in document.get("combinations", []):
        found[(entry["engine"], entry["hardware"], entry["model"])] = {
            k: v for k, v in entry.items() if k not in ("engine", "hardware", "model")
        }
    return found


def _plain(model: str) -> str:
    from simserve.errors import ModelError
    from simserve.model import load_model

    try:
        return load_model(model).name
    except ModelError:
        return model
