"""What `simserve calibrate import FORMAT PATH` does: read, check, write, say what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from simserve.calibration.imports import aiconfigurator, own, vidur
from simserve.calibration.imports.table_set import TableSet
from simserve.errors import ConfigError, nearest

FORMATS: dict[str, Callable[[Path, str | None], TableSet]] = {
    "vidur": vidur.read,
    "aiconfigurator": aiconfigurator.read,
    "tables": own.read,
}


class Imported(NamedTuple):
    """The files written, the rows of each (operator, dtype, backend), and by reason the rows that were left out."""

    paths: list[Path]
    rows: Counter[tuple[str, str, str]]
    skipped: Counter[str]


def import_tables(form: str, path: Path, out: Path, device: str | None = None) -> Imported:
    """Read the tables of `path` in format `form` (FORMATS) and write them into `out`, one Parquet file per table.

    Raises ConfigError for an unknown format, tables that are not of it, or nothing usable in them; OutputError for an `out` that holds
    such tables already.
    """
    if form not in FORMATS:
        raise ConfigError(f"unknown table format '{form}'{nearest(form, FORMATS)}")
    made = FORMATS[form](path, device)
    if not made.parts:
        reasons = "; ".join(f"{rows:,} rows: {reason}" for reason, rows in made.skipped.items())
        raise ConfigError(f"{path}: nothing in it can be used" + (f" ({reasons})" if reasons else ""))
    paths = made.write(out)
    rows: Counter[tuple[str, str, str]] = Counter()
    for stem, frames in made.parts.items():
        for frame in frames:
            dtype = "dtype" if "dtype" in frame else "dispatch_dtype"
            for key, part in frame.groupby([dtype, "backend"], observed=True):
                rows[stem, str(key[0]), str(key[1])] += len(part)
    return Imported(paths, rows, made.skipped)
