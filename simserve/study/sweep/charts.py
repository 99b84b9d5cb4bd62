"""The charts of a sweep: a figure along its keys, and any two figures against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from simserve.report.charts import Chart, Choice, Option, chart
from simserve.report.plots.style import COLOURS
from simserve.study.figure_charts import FILLED, Figures, axis, hint, scale_of, undominated
from simserve.study.labels import title
from simserve.study.quantities import standard
from simserve.study.sweep.best import MEETS
from simserve.study.sweep.grid import numeric

if TYPE_CHECKING:
    import pandas as pd

ITEM = "point-"
"""The row of a point in the page's table is called so, with its number behind."""

_MOST_COLOURS = len(COLOURS)
_FIRST = (
    "ttft_p99_s", "tpot_p99_s", "goodput_per_s", "attainment", "output_tokens_per_s", "usd_per_million_output_tokens", "usd_per_hour",
    "kwh_per_million_output_tokens",
)  # fmt: skip


def charts(points: pd.DataFrame, keys: tuple[str, ...], names: Mapping[str, Mapping[Any, str]]) -> Iterator[Chart]:
    """Of points (means over the seeds), one row each; `names`: of the values of each key."""
    if not len(points):
        return
    classes = [column for column in points.columns if "." in column and column not in keys]
    figures = Figures(points, [*(quantity.column for quantity in standard()), *classes], _FIRST)
    if not figures.columns:
        return
    named = {key: _values(points[key], names.get(key, {})) for key in keys}
    met = points["attainment"] if "attainment" in points and points["attainment"].notna().any() else None
    rows = []
    for place in range(len(points)):
        at = {_key(number): named[key][place] for number, key in enumerate(keys)}
        meets = {} if met is None else {"meets": "meets its SLO" if met.iloc[place] >= MEETS else "misses it"}
        called = ", ".join(f"{title(key)} {_text(named[key][place])}" for key in keys)
        rows.append({"id": place, "name": called or f"point {place}", **at, **meets, **figures.row(place)})
    hints = [{"field": _key(number), "title": title(key)} for number, key in enumerate(keys)]
    colours = _colours(keys, points)
    if keys:
        yield _along(rows, keys, points, figures, colours, hints)
    shape = None
    if met is not None:
        shape = {"field": "meets", "type": "nominal", "scale": {"domain": ["meets its SLO", "misses it"], "range": ["circle", "cross"]}}
    if len(figures.columns) > 1:
        others = (figures.choice("y", "figure", "ttft_p99_s"), figures.choice("x", "against", "tpot_p99_s", *figures.columns[1:]))
        spec = chart(rows, 380, layer=undominated("@by.colour", [*hints, hint("x"), hint("y")], shape))
        caption = "Two figures of all points; the line joins those that no other beats in both."
        yield Chart("frontier", caption, spec, (*others, colours), ITEM)


def _along(
    rows: list[dict[str, Any]], keys: tuple[str, ...], points: pd.DataFrame, figures: Figures, colours: Choice, hints: list[dict[str, Any]]
) -> Chart:
    along = Choice("x", "along", tuple(_axis(number, key, points[key]) for number, key in enumerate(keys)), _first_numeric(keys, points))
    x = {"field": "@x.field", "type": "@x.type", "title": "@x.title", "scale": "@x.scale", "sort": None, "axis": {"labelAngle": "@x.angle"}}
    median = {
        "mark": {"type": "line", "opacity": "@x.line", "strokeWidth": 1.5},
        "encoding": {"x": x, "y": {**axis("y"), "aggregate": "median"}, "color": "@by.colour"},
    }
    each = {
        "transform": [{"filter": {"field": "@y.field", "valid": True}}],
        "mark": FILLED,
        "encoding": {"x": x, "y": axis("y"), "color": "@by.colour", "tooltip": [*hints, hint("y")]},
    }
    caption = "A point is a point of the sweep; lines are medians over the other keys."
    return Chart("along", caption, chart(rows, 360, layer=[median, each]), (figures.choice("y", "figure"), along, colours), ITEM)


def _axis(number: int, key: str, values: pd.Series[Any]) -> Option:
    """A key as the horizontal axis: numbers to scale, anything else by name, each beside the other in its order."""
    called = {"field": _key(number), "title": title(key)}
    if not numeric(values):
        return Option(title(key), {**called, "type": "nominal", "scale": {"type": "point", "padding": 0.6}, "line": 0.25, "angle": -30})
    return Option(title(key), {**called, "type": "quantitative", "scale": scale_of(values.dropna().tolist()), "line": 0.7, "angle": 0})


def _colours(keys: tuple[str, ...], points: pd.DataFrame) -> Choice:
    """By which key points are coloured: any of few values, at first the first that is not the horizontal axis."""
    options = [Option("one colour", {"colour": {"value": COLOURS[0]}})]
    first = 0
    for number, key in enumerate(keys):
        if 1 < points[key].nunique() <= _MOST_COLOURS:
            if not first and number != _first_numeric(keys, points):
                first = len(options)
            scale = {"range": list(COLOURS)}
            legend = {"title": title(key)}
            options.append(
                Option(title(key), {"colour": {"field": _key(number), "type": "nominal", "sort": None, "scale": scale, "legend": legend}})
            )
    return Choice("by", "coloured by", tuple(options), first)


def _first_numeric(keys: tuple[str, ...], points: pd.DataFrame) -> int:
    return next((number for number, key in enumerate(keys) if numeric(points[key])), 0)


def _values(values: pd.Series[Any], names: Mapping[Any, str]) -> list[Any]:
    """The values of a key as a chart has them: numbers, or names."""
    if numeric(values):
        return [float(value) if value == value else None for value in values.tolist()]
    return [names.get(value, str(value)) if value == value and value is not None else "–" for value in values.tolist()]


def _key(number: int) -> str:
    return f"k{number}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
