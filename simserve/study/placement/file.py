"""A placement search read back from its directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simserve import renamed
from simserve.study import predicate
from simserve.study.believed_load import LoadBelief
from simserve.study.folder import read_back
from simserve.study.placement.figures import Tried
from simserve.study.placement.placement import Placement, Pool
from simserve.study.placement.result import PLACEMENT, SCHEMA_VERSION, PlacementResult


def read_placement(directory: str | Path) -> PlacementResult:
    """The search that lies in a directory. Raises OutputError when there is none, or one of another version."""
    return read_back(directory, PLACEMENT, "placement search", SCHEMA_VERSION, _result)


def _result(about: Mapping[str, Any]) -> PlacementResult:
    tried = tuple(_tried(entry) for entry in about["placements"])
    test = predicate.parse(about["predicate"])
    notes = tuple(str(note) for note in about.get("search_notes", ()))
    name, rate_key, affinity = (str(about[key]) for key in ("name", "rate_key", "affinity"))
    return PlacementResult(
        name, test, rate_key, float(about["tolerance"]), affinity, tried, notes, LoadBelief.read(about.get("uncertainty"))
    )


def _tried(entry: Mapping[str, Any]) -> Tried:
    pools = tuple(Pool(str(pool["role"]), int(pool["count"]), int(pool["tp"]), int(pool["pp"])) for pool in entry["pools"])
    low, high = (None if entry[key] is None else float(entry[key]) for key in ("holds_at", "fails_at"))
    error = None if entry["error"] is None else str(entry["error"])
    named = {renamed.COLUMNS.get(str(key), str(key)): value for key, value in entry.get("figures", {}).items()}
    figures = {key: None if value is None else float(value) for key, value in named.items()}
    return Tried(
        Placement(pools), low, high, bool(entry["dropped"]), int(entry["probes"]), str(entry["fails_because"]), error, figures,
        bool(entry.get("saturates", False)), int(entry.get("bounded", 0)),
    )  # fmt: skip
