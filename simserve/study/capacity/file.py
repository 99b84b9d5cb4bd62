"""A capacity search read back from its directory."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from simserve import renamed
from simserve.errors import OutputError
from simserve.study import predicate
from simserve.study.believed_load import LoadBelief
from simserve.study.capacity.figures import Probe, Replicate
from simserve.study.capacity.result import CAPACITY, PROBES, SCHEMA_VERSION, CapacityResult

_NOT_FIGURES = ("seed", "rate", "holds", "stable", "reasons")


def read_capacity(directory: str | Path) -> CapacityResult:
    """The search that lies in a directory. Raises OutputError when there is none, or one of another version."""
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

    folder = Path(directory)
    for name in (CAPACITY, PROBES):
        if not (folder / name).is_file():
            raise OutputError(f"{folder}: is not the output of a finished capacity search (there is no {name})")
    try:
        about = json.loads((folder / CAPACITY).read_text(encoding="utf-8"))
        version = about.get("schema_version")
        if version != SCHEMA_VERSION:
            raise OutputError(f"{folder / CAPACITY}: has schema version {version!r}; this version of simserve reads {SCHEMA_VERSION}")
        return _result(about, pd.read_parquet(folder / PROBES).rename(columns=renamed.COLUMNS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise OutputError(f"{folder}: the files of the capacity search cannot be read: {error}") from error


def _result(about: dict[str, Any], frame: Any) -> CapacityResult:
    figures = [name for name in frame.columns if name not in _NOT_FIGURES]
    probes = []
    for row in frame.to_dict("records"):
        values = {name: None if math.isnan(row[name]) else float(row[name]) for name in figures}
        reasons = tuple(row["reasons"].split("; ")) if row["reasons"] else ()
        probes.append(Probe(int(row["seed"]), float(row["rate"]), bool(row["holds"]), bool(row["stable"]), reasons, values))
    replicates = tuple(Replicate(r["seed"], r["outcome"], r["low"], r["high"]) for r in about["replicates"])
    test = predicate.parse(about["predicate"])
    belief = LoadBelief.read(about.get("uncertainty"))
    result = CapacityResult(about["name"], test, about["rate_key"], about["tolerance"], replicates, tuple(probes), belief=belief)
    known = set(result.notes)  # those that follow from the probes; the search left the others
    return replace(result, search_notes=tuple(note for note in about["notes"] if note not in known))
