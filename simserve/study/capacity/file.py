"""A capacity search read back from its directory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from simserve import renamed
from simserve.study import predicate
from simserve.study.believed_load import LoadBelief
from simserve.study.capacity.figures import Probe, Replicate
from simserve.study.capacity.result import CAPACITY, PROBES, SCHEMA_VERSION, CapacityResult
from simserve.study.folder import read_back

_NOT_FIGURES = ("seed", "rate", "holds", "stable", "reasons")


def read_capacity(directory: str | Path) -> CapacityResult:
    """The search that lies in a directory. Raises OutputError when there is none, or one of another version."""

    def made(about: Mapping[str, Any]) -> CapacityResult:
        import pandas as pd

        return _result(about, pd.read_parquet(Path(directory) / PROBES).rename(columns=renamed.COLUMNS))

    return read_back(directory, CAPACITY, "capacity search", SCHEMA_VERSION, made, PROBES)


def _result(about: Mapping[str, Any], frame: Any) -> CapacityResult:
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
