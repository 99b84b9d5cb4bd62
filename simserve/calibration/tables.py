"""Reads a directory of measured kernel tables (one Parquet or CSV file per operator) into rows that operators understand.

The schema is that of the public tables the bundled profiles were fitted on; docs/cost-models.md lists the columns of each file.
Rows that cannot be used are counted by reason, never dropped in silence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.calibration.converters import ALIASES, FILES, UNSUPPORTED, Converter
from simserve.errors import ConfigError
from simserve.hardware.operators import OPERATORS

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = ("operator", "dtype", "kv_dtype", "backend", "kernel")
"""What tells one fitted model from another."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Usable rows by operator, and what was left out.

    frames   operator -> DataFrame with the operator's columns, `seconds`, the identity columns, `source`, `heldout_kind`, `file`
    skipped  reason -> rows
    skipped_groups  (operator, dtype, backend, heldout_kind) -> rows left out
    """

    frames: dict[str, pd.DataFrame]
    skipped: Counter[str]
    skipped_groups: Counter[tuple[str, str, str, str]]


def read_tables(folder: Path, only: frozenset[str] | None = None, unreadable: dict[str, str] | None = None) -> Tables:
    """Read every table in `folder` (`only` these operators, if given).

    unreadable  takes the files that cannot be read or lack a column, with the reason, as long as another can be read; None = the first
                of them is raised

    Raises ConfigError: no such folder, no table in it, a file that is not Parquet or CSV inside, a table without a needed column.
    """
    import pandas as pd

    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such directory of kernel tables")
    paths = sorted(p for p in folder.iterdir() if p.suffix in (".parquet", ".csv"))
    if not paths:
        raise ConfigError(f"{folder}: no .parquet or .csv table in it")
    parts: dict[str, list[pd.DataFrame]] = {}
    skipped: Counter[str] = Counter()
    groups: Counter[tuple[str, str, str, str]] = Counter()
    for path in paths:
        try:
            normal = _table(path, skipped, groups)
        except ConfigError as problem:
            if unreadable is None:
                raise
            unreadable[path.name] = str(problem)
            continue
        for name, rows in normal.groupby("operator", observed=True) if len(normal) else ():
            if only is None or name in only:
                parts.setdefault(str(name), []).append(rows)
    if unreadable and len(unreadable) == len(paths):
        raise ConfigError(next(iter(unreadable.values())))
    return Tables({name: pd.concat(rows, ignore_index=True) for name, rows in parts.items()}, skipped, groups)


def _table(path: Path, skipped: Counter[str], groups: Counter[tuple[str, str, str, str]]) -> pd.DataFrame:
    """The rows of one file for every operator it describes; none where no operator does. Raises ConfigError."""
    import pandas as pd

    frame = _read(path)
    if path.stem not in FILES or UNSUPPORTED.get(path.stem) in frame:
        _count(skipped, groups, frame.assign(operator=path.stem), f"no operator model for table '{path.stem}'")
        return frame[:0]
    frame = frame.rename(columns={old: new for old, new in ALIASES.get(path.stem, {}).items() if new not in frame})
    return pd.concat([_normalise(path, frame, converter, skipped, groups) for converter in FILES[path.stem]])


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # pyarrow and pandas raise many kinds; to the user they are one thing
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: cannot be read as a table ({first})") from None
    small = frame.select_dtypes("integer").columns
    wide: pd.DataFrame = frame.astype(dict.fromkeys(small, "float64"))  # narrow integers would overflow in products
    return wide


def _normalise(
    path: Path, frame: pd.DataFrame, converter: Converter, skipped: Counter[str], groups: Counter[tuple[str, str, str, str]]
) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    missing = [c for c in (*converter.needs, "backend") if c not in frame]
    if missing:
        raise ConfigError(f"{path}: column {', '.join(missing)} is missing; found {', '.join(map(str, frame.columns))}")
    frame = converter.convert(frame)
    out = pd.DataFrame({"operator": frame["operator"].astype(str) if "operator" in frame else converter.operator}, index=frame.index)
    for name in ("dtype", "kv_dtype", "backend", "kernel", "source", "heldout_kind"):
        out[name] = frame[name].astype(str) if name in frame else ""
    out["file"] = path.stem
    columns = OPERATORS[converter.operator].columns
    for name, default in columns.items():
        values = frame.get(name, default)
        out[name] = pd.to_numeric(pd.Series(values, index=frame.index), errors="coerce").astype(float)
    out["seconds"] = pd.to_numeric(frame["latency_us"], errors="coerce").astype(float) * 1e-6
    bad_time = ~(np.isfinite(out["seconds"].to_numpy()) & (out["seconds"].to_numpy() > 0))
    inputs = out[list(columns)].to_numpy()
    bad_input = ~np.isfinite(inputs).all(axis=1) | (inputs < 0).any(axis=1)
    unknown = ~out["operator"].isin(list(OPERATORS)).to_numpy()
    for mask, reason in (
        (bad_time, "time is missing, not finite or not positive"),
        (bad_input & ~bad_time, "an input is missing, negative or not finite"),
        (unknown & ~bad_time & ~bad_input, "no operator model for this collective"),
    ):
        _count(skipped, groups, out[mask], reason)
    good: pd.DataFrame = out[~(bad_time | bad_input | unknown)].reset_index(drop=True)
    return good


def _count(skipped: Counter[str], groups: Counter[tuple[str, str, str, str]], rows: pd.DataFrame, reason: str) -> None:
    if not len(rows):
        return
    skipped[reason] += len(rows)
    keys = [rows[c].astype(str) if c in rows else [""] * len(rows) for c in ("operator", "dtype", "backend", "heldout_kind")]
    groups.update(zip(*keys, strict=True))
