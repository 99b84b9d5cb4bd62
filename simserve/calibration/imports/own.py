"""Reads tables that already name their columns as docs/cost-models.md does, whatever unit their time is in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simserve.calibration.converters import FILES
from simserve.calibration.imports.table_set import TableSet, read_frame, require
from simserve.errors import ConfigError, nearest

if TYPE_CHECKING:
    import pandas as pd

_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6, "ns": 1e-3}


def read(path: Path, device: str | None) -> TableSet:
    """Every `.parquet` or `.csv` table in a folder (or one such file), checked and with its times in microseconds.

    A time column may be `latency_us`, `latency_ms`, `latency_s` or `latency_ns`; with two of them it is not known which one holds.
    Raises ConfigError: nothing there, a file name that no operator describes, a missing column, two units.
    """
    if device is not None:
        raise ConfigError("--device chooses among the devices of vidur and aiconfigurator; tables of our own schema hold one device")
    if not path.exists():
        raise ConfigError(f"{path}: no such file or directory")
    files = [path] if path.is_file() else sorted(f for f in path.iterdir() if f.suffix in (".parquet", ".csv"))
    if not files:
        raise ConfigError(f"{path}: no .parquet or .csv table in it")
    made = TableSet()
    for file in files:
        if file.stem not in FILES:
            raise ConfigError(f"{file}: no operator is described by a table '{file.stem}'{nearest(file.stem, FILES)}")
        frame = _in_microseconds(file, read_frame(file))
        require(file, frame, tuple(dict.fromkeys((*(c for converter in FILES[file.stem] for c in converter.needs), "backend"))))
        made.add(file.stem, frame if "source" in frame else frame.assign(source=f"{file.name}@local"))
    return made


def _in_microseconds(file: Path, frame: pd.DataFrame) -> pd.DataFrame:
    found = [c for c in (f"latency_{unit}" for unit in _UNITS) if c in frame]
    if len(found) > 1:
        raise ConfigError(f"{file}: {' and '.join(found)} are both there; keep one column of times")
    if not found or found == ["latency_us"]:
        return frame
    unit = found[0].removeprefix("latency_")
    return frame.assign(latency_us=frame[found[0]] * _UNITS[unit]).drop(columns=found)
