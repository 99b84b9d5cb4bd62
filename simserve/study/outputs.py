"""What lies in an output directory: a run, variants with their claims, a sweep, a capacity, a placement or a plan search."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from simserve import renamed
from simserve.errors import OutputError
from simserve.report import files
from simserve.study.capacity.result import CAPACITY
from simserve.study.folder import RUNS, stated, unfinished
from simserve.study.placement.result import PLACEMENT
from simserve.study.plan.result import PLAN
from simserve.study.sweep.result import FIXED, FRAME, SCHEMA_VERSION, SWEEP, SweepResult

_MARKERS = (files.SUMMARY, SWEEP, CAPACITY, PLACEMENT, PLAN)
_MOST_NAMED = 6


class Kind(StrEnum):
    """The kinds, as messages call them."""

    RUN = "a run"
    VARIANTS = "an experiment with variants"
    SWEEP = "a sweep"
    CAPACITY = "a capacity search"
    PLACEMENT = "a placement search"
    PLAN = "a plan search"


def recognise(path: Path) -> tuple[Kind, Path]:
    """(kind, directory), or for the table of a sweep alone (kind, file). Raises OutputError for everything else."""
    if not path.exists():
        raise OutputError(f"{path}: does not exist")
    if path.is_file():
        if path.name in (*_MARKERS, FRAME):
            return recognise(path.parent)
        if path.suffix == ".parquet":
            return Kind.SWEEP, path
        raise OutputError(f"{path}: is a file; a report is made of output directories, or of the Parquet file of a sweep")
    if (path / SWEEP).is_file():
        return Kind.SWEEP, path
    if (path / CAPACITY).is_file():
        return Kind.CAPACITY, path
    if (path / PLACEMENT).is_file():
        return Kind.PLACEMENT, path
    if (path / PLAN).is_file():
        return Kind.PLAN, path
    if (path / files.SUMMARY).is_file():
        return (Kind.VARIANTS if "claims" in summary_of(path) else Kind.RUN), path
    if (path / FRAME).is_file():
        return Kind.SWEEP, path / FRAME
    raise OutputError(f"{path}: {_what_else(path)}")


def summary_of(directory: Path) -> dict[str, Any]:
    """The content of summary.json, of whatever kind. Raises OutputError when it is not a JSON mapping."""
    path = directory / files.SUMMARY
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise OutputError(f"{path}: is not the summary of anything simserve writes")
    return content


def read_sweep(path: Path) -> SweepResult:
    """The sweep of a directory, or of a Parquet file alone. Raises OutputError."""
    if path.is_dir():
        stated(path, SWEEP, "sweep", SCHEMA_VERSION, FRAME)
        return _with_columns(SweepResult.read(path), path / FRAME)
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

    try:
        frame = pd.read_parquet(path).rename(columns=renamed.COLUMNS)
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path}: cannot be read as Parquet: {error}") from error
    columns = list(frame.columns)
    keys = columns[columns.index("seed") + 1 : columns.index("status")] if {"seed", "status"} <= set(columns) else []
    about = {"name": path.stem, "keys": keys, "notes": [], "seeds": sorted(set(frame["seed"])) if "seed" in columns else []}
    return _with_columns(SweepResult(frame, about), path)


def _with_columns(result: SweepResult, path: Path) -> SweepResult:
    missing = [name for name in (*FIXED, *result.keys, "ttft_p99_s") if name not in result.frame.columns]
    if missing:
        raise OutputError(f"{path}: is not the table of a sweep (it has no column {', '.join(missing)})")
    return result


def _what_else(path: Path) -> str:
    """What a directory without a result is."""
    if (path / files.REQUESTS).is_file() or (path / files.EXPERIMENT).is_file():
        return f"is half a run: it was cut short before {files.SUMMARY} was written; run it again"
    if (begun := unfinished(path)) is not None:
        runs = sum(1 for _ in (path / RUNS).glob("*/*/*.json"))
        kept = f"{runs:,} finished run{'s are' if runs != 1 else ' is'} kept; finish it with the same command and --resume"
        return f"is a {begun or 'study'} that was interrupted before its result was written: {kept}"
    inside = sorted(child.name for child in path.iterdir() if child.is_dir() and any((child / name).is_file() for name in _MARKERS))
    if inside:
        names = ", ".join(inside[:_MOST_NAMED]) + (" ..." if len(inside) > _MOST_NAMED else "")
        return f"is not a result itself; it holds {len(inside)}: name those you mean ({names})"
    return f"is not the output of a finished run or study (no {', '.join(_MARKERS[:-1])} or {_MARKERS[-1]})"
