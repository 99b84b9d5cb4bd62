"""A placement search read back from its directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simserve import renamed
from simserve.errors import ConfigError, OutputError
from simserve.files.json_text import read_json
from simserve.study import predicate
from simserve.study.believed_load import LoadBelief
from simserve.study.placement.figures import Tried
from simserve.study.placement.placement import Placement, Pool
from simserve.study.placement.result import PLACEMENT, SCHEMA_VERSION, PlacementResult


def read_placement(directory: str | Path) -> PlacementResult:
    """The search that lies in a directory. Raises OutputError when there is none, or one of another version."""
    path = Path(directory) / PLACEMENT
    if not path.is_file():
        raise OutputError(f"{directory}: is not the output of a finished placement search (there is no {PLACEMENT})")
    about = read_json(path, OutputError)
    version = about.get("schema_version") if isinstance(about, Mapping) else None
    if version != SCHEMA_VERSION:
        raise OutputError(f"{path}: has schema version {version!r}; this version of simserve reads {SCHEMA_VERSION}")
    try:
        tried = tuple(_tried(entry) for entry in about["placements"])
        test = predicate.parse(about["predicate"])
        notes = tuple(str(note) for note in about.get("search_notes", ()))
        name, rate_key, affinity = (str(about[key]) for key in ("name", "rate_key", "affinity"))
        return PlacementResult(
            name, test, rate_key, float(about["tolerance"]), affinity, tried, notes, LoadBelief.read(about.get("uncertainty"))
        )
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise OutputError(f"{path}: cannot be read as a placement search: {type(error).__name__}: {error}") from error


def _tried(entry: Mapping[str, Any]) -> Tried:
    pools = tuple(Pool(str(pool["role"]), int(pool["count"]), int(pool["tp"]), int(pool["pp"])) for pool in entry["pools"])
    low, high = (None if entry[key] is None else float(entry[key]) for key in ("holds_at", "fails_at"))
    error = None if entry["error"] is None else str(entry["error"])
    named = {renamed.COLUMNS.get(str(key), str(key)): value for key, value in entry.get("figures", {}).items()}
    figures = {key: None if value is None else float(value) for key, value in named.items()}
    return Tried(
        Placement(pools), low, high, bool(entry["dropped"]), int(entry["probes"]), str(entry["fails_because"]), error, figures,
        bool(entry.get("saturates", False)),
    )  # fmt: skip
