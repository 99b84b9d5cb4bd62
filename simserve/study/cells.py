"""Cells of the tables on a study's page: how a figure is written, and the number by which its column sorts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from simserve.report.rows import milliseconds, number, with_unit
from simserve.study.labels import title
from simserve.study.quantities import standard

if TYPE_CHECKING:
    import pandas as pd

_FRACTIONS = ("attainment", "completed_fraction", "busy_fraction", "compute_utilisation", "kv_used_mean", "kv_used_max", "saturated")


_BEGIN_WITH_UNIT = {"usd": "USD", "kwh": "kWh", "gco2": "g"}
"""Columns that begin with their unit, as in `usd_per_hour`."""


class Cell(NamedTuple):
    """What is shown, and what it sorts by (None: by its text)."""

    text: str
    value: float | None


def cells(table: pd.DataFrame) -> list[list[Cell]]:
    """All rows of a table."""
    columns = list(table.columns)
    return [[cell(column, value) for column, value in zip(columns, row, strict=True)] for row in table.itertuples(index=False)]


def texts(table: pd.DataFrame) -> list[list[str]]:
    """The same as text alone."""
    return [[each.text for each in row] for row in cells(table)]


def cell(column: str, value: Any) -> Cell:
    """A value of a column: seconds as durations, fractions as per cent, a dash for what is not there."""
    if value is None or value != value:
        return Cell("–", None)
    if str(value) in ("True", "False"):  # numpy's truth values are not Python's
        return Cell("yes" if value else "no", float(value))
    if isinstance(value, str):
        return Cell(value, None)
    return Cell(figure(column, float(value)), float(value))


def is_fraction(column: str) -> bool:
    """Whether a column is a fraction of something, shown as per cent."""
    return column.rsplit(".", 1)[-1] in _FRACTIONS


def figure(column: str, value: float) -> str:
    """A figure with the unit of its column."""
    if math.isnan(value):
        return "–"
    name = column.rsplit(".", 1)[-1]
    if name == "saturated" and value in (0.0, 1.0):
        return "yes" if value else "no"
    if is_fraction(column):
        return with_unit(value, "%")
    if name.endswith(("_s", "_s_per_token")) and not name.endswith("_per_s"):
        return milliseconds(value)
    if unit := _BEGIN_WITH_UNIT.get(name.split("_")[0]):
        return with_unit(value, unit)
    if name.startswith("joules"):
        return with_unit(value, "J")
    return f"{number(value)} /s" if name.endswith("_per_s") else number(value)


def breakable(key: str) -> Any:
    """A dotted key for a page, which may break it after its dots and nowhere else inside a word."""
    from markupsafe import Markup, escape

    return Markup(str(escape(key)).replace(".", ".<wbr>").replace("_", "_<wbr>"))


def in_order(columns: Iterable[str]) -> list[str]:
    """Figures in the order of the rows of a sweep, each once; others, such as an unusual percentile, before them."""
    place = {quantity.column: number for number, quantity in enumerate(standard())}
    return sorted(dict.fromkeys(columns), key=lambda column: place.get(column, -1))


def heading(column: str) -> str:
    """The short name of a column; what its unit would say in a plot is in the name here."""
    return f"{title(column)} tokens" if column.endswith("_tokens_per_s") else title(column)


def headings(columns: Sequence[str]) -> list[str]:
    """Short names of columns; where two would be called the same, their full names."""
    short = [heading(column) for column in columns]
    return [name if short.count(name) == 1 else column for name, column in zip(short, columns, strict=True)]
