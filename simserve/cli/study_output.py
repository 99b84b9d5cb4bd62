"""What the commands of studies share: values of options, and a table of figures on stdout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

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
    """The first rows of a table on stdout, columns of keys by their last part where that is enough."""
    from simserve.cli.tables import show

    last = [str(name).rsplit(".", 1)[-1] for name in frame.columns]
    names = [short if last.count(short) == 1 else str(name) for short, name in zip(last, frame.columns, strict=True)]
    rows = [[_cell(value) for value in row] for row in frame.head(_MAX_ROWS).itertuples(index=False)]
    left = len(frame) - len(rows)
    show(names, rows, f"and {left} more points" if left > 0 else "")


def _cell(value: Any) -> str:
    if isinstance(value, bool | int | str):
        return str(value)
    try:
        return "-" if value != value else f"{float(value):.4g}"
    except (TypeError, ValueError):
        return "-" if value is None else str(value)
