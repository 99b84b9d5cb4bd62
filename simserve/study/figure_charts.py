"""The charts that studies share: figures of runs along what was varied, and any two figures against each other.

Rows of data hold the figures of a table under short fields; a choice of the page says which of them an axis shows, with its title, unit
and scale (`report.charts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simserve.report.charts import Choice, Option
from simserve.report.plots.style import COLOURS, LIMIT_COLOUR
from simserve.study.cells import is_fraction
from simserve.study.labels import title_with_unit
from simserve.study.quantities import standard

if TYPE_CHECKING:
    import pandas as pd

_WIDE = 30.0
"""Largest over smallest positive value from which an axis is logarithmic."""

_DIGITS = 6
"""Of figures in a page; the study's files have all of them."""

NOTHING = "#b9c5d0"
"""The colour of what has lost, or was not run."""

FILLED = {"type": "point", "filled": True, "size": 80, "opacity": 0.9, "cursor": "pointer"}
"""The mark of a run."""


class Figures:
    """Columns of a table as data of charts. What is the same in every row shows nothing and is left out, unless a limit is set to it.

    first   columns that come first among the choices, if they are there
    bounds  column -> the limit that is drawn with it
    """

    def __init__(self, table: pd.DataFrame, columns: Iterable[str], first: Sequence[str] = (), bounds: Mapping[str, float] | None = None):
        bounds = bounds or {}
        known = [name for name in dict.fromkeys((*first, *columns)) if name in table.columns and table[name].notna().any()]
        self.columns = [name for name in known if name in bounds or table[name].nunique() > 1] or known[:1]
        numbers = {name: table[name].astype("float64") for name in self.columns}
        self._rows = [
            {field(place): _rounded(value) for place, value in enumerate(row) if value == value}
            for row in zip(*(numbers[name].tolist() for name in self.columns), strict=True)
        ]
        self._options = tuple(_option(place, name, numbers[name], bounds.get(name)) for place, name in enumerate(self.columns))

    def row(self, place: int) -> dict[str, float]:
        """The figures of a row of the table, those that are defined."""
        return self._rows[place] if self._rows else {}

    def choice(self, name: str, label: str, *first: str) -> Choice:
        """Of one figure; the first of `first` that there is stands at first."""
        at = next((self.columns.index(column) for column in first if column in self.columns), 0)
        return Choice(name, label, self._options, at)


def field(place: int) -> str:
    """The field of the figure at this place of the columns."""
    return f"f{place}"


def low_of(name: str) -> str:
    """The field of the lower end of an interval of the figure in the field `name`."""
    return f"{name}_low"


def high_of(name: str) -> str:
    """The field of its upper end."""
    return f"{name}_high"


def axis(name: str) -> dict[str, Any]:
    """The encoding of the figure that is chosen under `name`."""
    return {
        "field": f"@{name}.field", "type": "quantitative", "title": f"@{name}.title", "scale": f"@{name}.scale",
        "axis": {"format": f"@{name}.format"},
    }  # fmt: skip


def hint(name: str) -> dict[str, Any]:
    """The line of a tooltip for the figure that is chosen under `name`."""
    return {"field": f"@{name}.field", "type": "quantitative", "title": f"@{name}.title", "format": f"@{name}.exact"}


def limit_line(name: str) -> dict[str, Any]:
    """A layer: the limit of the figure that is chosen under `name`, across the chart, where there is one."""
    return {
        "data": {"values": [{"bound": f"@{name}.bound"}]},
        "transform": [{"filter": "isValid(datum.bound)"}],
        "mark": {"type": "rule", "color": LIMIT_COLOUR, "strokeDash": [4, 4]},
        "encoding": {"y": {**axis(name), "field": "bound"}},
    }


def scale_of(values: Sequence[float]) -> dict[str, Any]:
    """Of an axis with these values: logarithmic where they span orders of magnitude, without zero otherwise."""
    positive = [value for value in values if value > 0]
    if positive and len(positive) == len(values) and max(positive) / min(positive) >= _WIDE:
        return {"type": "log", "padding": 12}
    return {"type": "linear", "zero": False, "padding": 12}


def undominated(colour: Any, hints: Sequence[Mapping[str, Any]], shape: Any = None) -> list[dict[str, Any]]:
    """Layers: every row with the figures chosen under x and y, and a line through those that no other beats in both."""
    both = [{"calculate": "@x.cost", "as": "u"}, {"calculate": "@y.cost", "as": "v"}, {"filter": "isValid(datum.u) && isValid(datum.v)"}]
    order = [{"field": "u", "order": "ascending"}, {"field": "v", "order": "ascending"}]
    # The least v so far, and that of the row before: a frame that ends before the row itself gives nothing in Vega.
    so_far = {"window": [{"op": "min", "field": "v", "as": "least"}], "ignorePeers": True, "sort": order}
    before = {"window": [{"op": "lag", "field": "least", "as": "best"}], "sort": order}
    return [
        {
            "transform": [*both, so_far, before, {"filter": "!isValid(datum.best) || datum.v < datum.best"}],
            "mark": {"type": "line", "color": "#777777", "strokeDash": [5, 4], "strokeWidth": 1.2},
            "encoding": {"x": axis("x"), "y": axis("y"), "order": {"field": "u"}},
        },
        {
            "transform": both,
            "mark": FILLED,
            "encoding": {
                "x": axis("x"), "y": axis("y"), "color": colour, **({} if shape is None else {"shape": shape}), "tooltip": list(hints),
            },
        },
    ]  # fmt: skip


def by_name(fields: str, colours: Mapping[str, str], *, shapes: Mapping[str, str] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(colour, shape) of a field of few names, in this order in the legend. Shapes default to circles."""
    names = list(colours)
    marks = [(shapes or {}).get(name, "circle") for name in names]
    colour = {"field": fields, "type": "nominal", "scale": {"domain": names, "range": list(colours.values())}}
    return colour, {"field": fields, "type": "nominal", "scale": {"domain": names, "range": marks}}


HOLDS = by_name("holds", {"holds": COLOURS[2], "fails": COLOURS[1]}, shapes={"fails": "cross"})
"""Colour and shape of runs that hold and that fail."""


def _option(place: int, column: str, values: pd.Series[float], bound: float | None) -> Option:
    name = column.rsplit(".", 1)[-1]
    more_is_better = _BETTER.get(column, _BETTER.get(name, False))
    known = values.dropna().tolist()
    exact = ".4~%" if is_fraction(column) else ",.5~r"
    shown = "~%" if is_fraction(column) else "~s" if known and max(known) >= 1e4 else ",~f"
    prefix = column[: -len(name)].rstrip(".")
    called = f"{prefix}: {title_with_unit(name)}" if prefix else title_with_unit(name)
    return Option(
        called,
        {
            "field": field(place),
            "low": low_of(field(place)),
            "high": high_of(field(place)),
            "title": called,
            "scale": scale_of([*known, *([] if bound is None else [bound])]),
            "format": shown,
            "exact": exact,
            "cost": f"{'-' if more_is_better else ''}datum.{field(place)}",
            "bound": bound,
        },
    )


_BETTER = {quantity.column: not quantity.more_is_worse for quantity in standard()} | {"holds_at": True, "fails_at": True}
"""Column -> whether more of it is better."""


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
