"""What the commands of studies share: values of options, and a table of figures on stdout."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from simserve.cli.failures import INTERRUPTED
from simserve.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

_MAX_ROWS = 60


def changed(options: Iterable[str] | None) -> dict[str, Any]:
    """`--set key=value` options as values by key. Raises ConfigError."""
    from simserve.config.overrides import split

    return dict(split(text) for text in options or ())


def whole_numbers(text: str | None, option: str) -> list[int] | None:
    """'0,1,2' as numbers. Raises ConfigError."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text}: expected whole numbers with commas between them, such as 0,1,2") from None


def show_frame(frame: pd.DataFrame) -> None:
    """The first rows of a table on stdout; seconds as milliseconds where they are few."""
    from simserve.cli.tables import show
    from simserve.study.labels import title

    titles = [title(str(name)) for name in frame.columns]
    names = [short if titles.count(short) == 1 else str(name) for short, name in zip(titles, frame.columns, strict=True)]
    seconds = [str(name).endswith(("_s", "_s_per_token")) and not str(name).endswith("_per_s") for name in frame.columns]
    rows = [[_cell(*cell) for cell in zip(row, seconds, strict=True)] for row in frame.head(_MAX_ROWS).itertuples(index=False)]
    left = len(frame) - len(rows)
    show(names, rows, f"and {left} more rows" if left > 0 else "")


def _cell(value: Any, seconds: bool) -> str:
    from simserve.report.rows import milliseconds, number

    if isinstance(value, str) or value is None:
        return value or "-"
    if str(value) in ("True", "False"):  # numpy's truth values are not Python's
        return "yes" if value else "no"
    if value != value:
        return "-"
    return milliseconds(float(value)) if seconds else number(float(value))


def share(text: str, option: str) -> float:
    """'2%' or '0.02' as a share. Raises ConfigError."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest or not math.isfinite(value):
        raise ConfigError(f"{option} {text}: expected a share such as 2% or 0.02")
    return value


@contextmanager
def kept(folder: Path | None) -> Iterator[None]:
    """Ctrl-C inside says that the finished runs are in the folder, and how to go on; without one it is like any other."""
    try:
        yield
    except KeyboardInterrupt:
        if folder is None:
            raise
        print(f"interrupted: the finished runs are kept in {folder}; the same command with --resume continues", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
