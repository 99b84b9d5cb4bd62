"""Readers of measurement files: a file -> its cases. Results of load generators are known by their keys, tables by their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simserve.errors import ConfigError, nearest
from simserve.validation.case import Case
from simserve.validation.readers import client_results
from simserve.validation.readers.tables import TableReader, read_table, readers_of

__all__ = ["Measurements", "TableReader", "read_directory", "read_file", "read_measurements", "readers_of"]


@dataclass(frozen=True, slots=True)
class Measurements:
    """The cases of a directory, and by name the files in it that could not be read, with the reason."""

    cases: list[Case]
    unreadable: dict[str, str]


def read_directory(place: Path, dataset: str | None = None, *, readers: Sequence[TableReader] = ()) -> list[Case]:
    """The cases of every measurement file in a directory (or of one file), all of which must be readable.

    Raises ConfigError as `read_measurements`, and for the first file that cannot be read.
    """
    found = read_measurements(place, dataset, readers=readers)
    for reason in found.unreadable.values():
        raise ConfigError(reason)
    return found.cases


def read_measurements(place: Path, dataset: str | None = None, *, readers: Sequence[TableReader] = ()) -> Measurements:
    """The cases of every measurement file in a directory (or of one file); files that cannot be read are left out and told.

    readers  of Parquet tables; without any, only results of load generators (JSON) can be read

    Raises ConfigError: no such place, no measurement file in it, none that can be read, an unknown `dataset` (with the nearest).
    """
    if not place.exists():
        raise ConfigError(f"{place}: no such file or directory")
    files = [place] if place.is_file() else sorted(f for f in place.iterdir() if f.suffix in (".parquet", ".json", ".jsonl"))
    if not files:
        raise ConfigError(f"{place}: holds no measurements (.parquet tables or .json results of a benchmark client)")
    if dataset is not None:
        chosen = [f for f in files if f.stem == dataset]
        if not chosen:
            raise ConfigError(f"{place}: no data set '{dataset}'{nearest(dataset, [f.stem for f in files])}")
        files = chosen
    cases: list[Case] = []
    unreadable: dict[str, str] = {}
    for file in files:
        try:
            cases += read_file(file, readers)
        except ConfigError as problem:
            unreadable[file.name] = str(problem)
    if len(unreadable) == len(files):
        more = f" (and {len(files) - 1} more files, none of which can be read)" if len(files) > 1 else ""
        raise ConfigError(next(iter(unreadable.values())) + more)
    return Measurements(cases, unreadable)


def read_file(file: Path, readers: Sequence[TableReader] = ()) -> list[Case]:
    """The cases of one file. Raises ConfigError when its columns or keys are those of no known schema."""
    return client_results.read(file) if file.suffix in (".json", ".jsonl") else read_table(file, readers)
