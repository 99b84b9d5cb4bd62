"""The charts of a placement search: the load a device of each placement, and any two of its figures against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simserve.report.charts import Chart, chart
from simserve.report.plots.style import COLOURS
from simserve.study.figure_charts import NOTHING, Figures, by_name, hint, undominated
from simserve.study.placement.figures import Tried
from simserve.study.rate_key import unit

if TYPE_CHECKING:
    from simserve.study.placement.result import PlacementResult

ITEM = "placement-"
"""The row of a placement in the page's table is called so, with its number behind."""

_MOST_BARS = 24
_STANDS = {"best": COLOURS[0], "as good, as far as the search tells": COLOURS[4], "less": NOTHING}
_FIRST = ("holds_at", "devices", "ttft_p99_s", "tpot_p99_s", "usd_per_million_output_tokens", "kwh_per_million_output_tokens")


def charts(result: PlacementResult, columns: list[str]) -> Iterator[Chart]:
    """Of a finished search. `columns`: figures of its frame, whose rows are in the same order."""
    shown = [tried for tried in result.ranked if tried.error is None]
    if not any(tried.low or tried.high for tried in shown):
        return
    frame = result.frame
    figures = Figures(frame, columns, _FIRST)
    rows: list[dict[str, Any]] = []
    for place, tried in enumerate(shown):
        ends = {name: value for name, value in (("low", tried.low), ("high", tried.high)) if value is not None}
        named = {"id": place, "name": str(tried.placement), "says": tried.limit, "stands": _stands(result, tried)}
        rows.append({**named, **ends, "kind": tried.placement.kind, "devices": tried.placement.devices, **figures.row(place)})
    hints = [{"field": "name", "title": "placement"}, {"field": "devices", "title": "devices"}]
    yield _bars(result, rows[:_MOST_BARS], hints)
    held = [row for row in rows if "low" in row]
    if len(held) > 1 and len(figures.columns) > 1:
        colour, shape = by_name("kind", {"mixed": COLOURS[0], "disaggregated": COLOURS[1]}, shapes={"disaggregated": "square"})
        spec = chart(held, 360, layer=undominated(colour, [*hints, hint("x"), hint("y")], shape))
        others = (figures.choice("y", "figure", "holds_at"), figures.choice("x", "against", "devices", *figures.columns[1:]))
        yield Chart("figures", "Placements that hold; the line joins those that no other beats in both.", spec, others, ITEM)


def _bars(result: PlacementResult, rows: list[dict[str, Any]], hints: list[dict[str, Any]]) -> Chart:
    what = unit(result.rate_key)
    colour, _ = by_name("stands", {name: shade for name, shade in _STANDS.items() if any(row["stands"] == name for row in rows)})
    name = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 210, "ticks": False, "domain": False}}
    load = {"type": "quantitative", "title": f"load a device, {what}"}
    told = [
        *hints,
        {"field": "low", "title": "holds at", "format": ",.4~r"},
        {"field": "high", "title": "fails at", "format": ",.4~r"},
        {"field": "says", "title": "because"},
    ]
    bracket = {
        "mark": {"type": "rule", "color": "#444444"},
        "encoding": {"y": name, "x": {**load, "field": "low"}, "x2": {"field": "high"}},
    }
    end = {"mark": {"type": "tick", "color": "#444444", "thickness": 1.5}, "encoding": {"y": name, "x": {**load, "field": "high"}}}
    bar = {
        "mark": {"type": "bar", "height": {"band": 0.62}, "cursor": "pointer"},
        "encoding": {"y": name, "x": {**load, "field": "low"}, "color": colour, "tooltip": told},
    }
    caption = "The bar ends at the load a device where the placement was last seen to hold, the mark where it was seen to fail."
    return Chart("bars", caption, chart(rows, 30 + 24 * len(rows), layer=[bar, bracket, end]), (), ITEM)


def _stands(result: PlacementResult, tried: Tried) -> str:
    best, tie, less = _STANDS
    place = result.place_of(tried)
    return {"best": best, "tie": tie}.get(place, less)
