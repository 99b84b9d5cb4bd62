"""Rows on their way into our tables: collected by file, counted where they cannot be used, written all at once."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.errors import ConfigError, OutputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(slots=True)
class TableSet:
    """`parts`: table name (a file stem of docs/cost-models.md) -> frames of its rows; `skipped`: reason -> rows."""

    parts: dict[str, list[pd.DataFrame]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, stem: str, rows: pd.DataFrame) -> None:
        """Keep the rows whose time is a number; a published table has an empty cell where a measurement failed."""
        import numpy as np
        import pandas as pd

        times = [c for c in rows if str(c).endswith("_us")]
        numbers = rows[times].apply(pd.to_numeric, errors="coerce")
        good = (np.isfinite(numbers) & (numbers > 0)).all(axis=1)
        if not good.all():
            self.skipped[f"{stem}: time is missing, not finite or not positive"] += int((~good).sum())
        if good.any():
            self.parts.setdefault(stem, []).append(rows[good])

    def write(self, out: Path) -> list[Path]:
        """Write `<stem>.parquet` files into `out`: all or none. Raises OutputError when one of them exists or cannot be written."""
        import pandas as pd

        targets = {stem: out / f"{stem}.parquet" for stem in sorted(self.parts)}
        there = [str(path) for path in targets.values() if path.exists()]
        if there:
            raise OutputError(f"{there[0]} exists already; choose another --out")
        try:
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".import-", dir=out) as staging:
                for stem, frames in self.parts.items():
                    pd.concat(frames, ignore_index=True).to_parquet(Path(staging) / f"{stem}.parquet", compression="zstd", index=False)
                for stem, path in targets.items():
                    (Path(staging) / f"{stem}.parquet").replace(path)
        except OSError as error:
            raise OutputError(f"{out}: cannot write the tables ({error.strerror})") from None
        return list(targets.values())


def read_frame(path: Path) -> pd.DataFrame:
    """A Parquet or CSV file (by its name; anything but .parquet is CSV). Raises ConfigError when it is not one."""
    import pandas as pd

    try:
        with path.open("rb") as file:
            if file.read(40).startswith(b"version https://git-lfs"):
                raise ConfigError(f"{path}: this is a Git LFS pointer, not the table; run 'git lfs pull' in that repository")
        frame: pd.DataFrame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # pyarrow and pandas raise many kinds; to the user they are one thing
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: cannot be read as a table ({first})") from None
    return frame


def require(path: Path, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """Raise ConfigError naming the columns that `frame` lacks."""
    missing = [c for c in columns if c not in frame]
    if missing:
        found = ", ".join(map(str, list(frame.columns)[:20])) + (", ..." if len(frame.columns) > 20 else "")
        raise ConfigError(f"{path}: column {', '.join(missing)} is missing; found {found}")
