"""The charts of a plan search: cost against what users get, and how busy each plan is at best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simserve.report.charts import Chart, chart
from simserve.report.plots.style import COLOURS, LIMIT_COLOUR
from simserve.study.figure_charts import FILLED, NOTHING, Figures, axis, by_name, field, high_of, hint, limit_line, low_of
from simserve.study.labels import title_with_unit
from simserve.study.plan.figures import Fate, Outcome
from simserve.study.plan.result import PlanResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {
    Fate.VERIFIED: COLOURS[2],
    Fate.REFUTED: COLOURS[1],
    Fate.FAILED: COLOURS[1],
    Fate.HELD: COLOURS[0],
    Fate.NOT_RUN: "#8a99a8",
    Fate.OVERLOADED: NOTHING,
    Fate.TOO_SLOW: NOTHING,
    Fate.IMPOSSIBLE: NOTHING,
}
_SHAPES = {Fate.VERIFIED: "circle", Fate.HELD: "circle", Fate.FAILED: "cross", Fate.REFUTED: "cross"}
_MOST_POINTS = 4000

ITEM = "plan-"
"""The details of a plan on the page are called so, with its number behind."""


def charts(result: PlanResult) -> Iterator[Chart]:
    """The charts that have anything to show."""
    yield from (each for each in (_pareto(result), _busy(result)) if each is not None)


def _pareto(result: PlanResult) -> Chart | None:
    ran = [(number, one) for number, one in enumerate(result.outcomes) if one.values and one.fraction >= 1.0]
    bounds = {limit.quantity.column: limit.bound for limit in result.limits}
    frame = result.frame.iloc[[number for number, _ in ran]]
    figures = Figures(frame, result.figures_shown, tuple(bounds), bounds)
    if not ran or not figures.columns:
        return None
    front = {id(one) for one in result.pareto}
    rows = [
        {**_row(number, one), "front": id(one) in front, **figures.row(place), **_ends(one, figures)}
        for place, (number, one) in enumerate(ran)
    ]
    cost = _cost(result)
    colour, shape = _fates(result)
    hints = [*_HINTS, hint("y")]
    layers: list[dict[str, Any]] = [
        limit_line("y"),
        {
            "transform": [{"filter": "datum.front"}],
            "mark": {"type": "line", "color": COLOURS[2], "opacity": 0.5},
            "encoding": {"x": cost, "y": axis("y"), "order": {"field": "cost"}},
        },
        {
            "mark": {"type": "rule", "opacity": 0.6},
            "encoding": {"x": cost, "y": {**axis("y"), "field": "@y.low"}, "y2": {"field": "@y.high"}},
        },
        {"mark": FILLED, "encoding": {"x": cost, "y": axis("y"), "color": colour, "shape": shape, "tooltip": hints}},
    ]
    caption = "Plans simulated in full. Bars: the interval of a verified figure; dashed: the limit; line: the plans that no other beats."
    return Chart("pareto", caption, chart(rows, 380, layer=layers), (figures.choice("y", "figure"),), ITEM)


def _busy(result: PlanResult) -> Chart | None:
    found = [(number, one) for number, one in enumerate(result.outcomes) if one.utilisation]
    if not found:
        return None
    found = sorted(found, key=lambda pair: abs((pair[1].utilisation or 0.0) - 1.0))[:_MOST_POINTS]
    rows = [{**_row(number, one), "busy": one.utilisation} for number, one in sorted(found)]
    cost = _cost(result)
    colour, shape = _fates(result)
    hints = [*_HINTS, {"field": "busy", "title": "utilisation at best", "format": ",.3~r"}]
    busy = {"field": "busy", "type": "quantitative", "title": None, "scale": {"type": "log"}}
    spec = chart(
        rows,
        300,
        layer=[
            {"mark": {"type": "rule", "color": LIMIT_COLOUR, "strokeDash": [4, 4]}, "encoding": {"y": {"datum": 1.0}}},
            {"mark": {**FILLED, "size": 60}, "encoding": {"x": cost, "y": busy, "color": colour, "shape": shape, "tooltip": hints}},
        ],
    )
    caption = "Utilisation of each plan's busiest pool at best, by the capacity bound: above 1 it is overloaded."
    return Chart("busy", caption, spec, (), ITEM)


_HINTS = [{"field": name, "title": name} for name in ("plan", "fate", "cost", "why")]


def _row(number: int, one: Outcome) -> dict[str, Any]:
    says = ": ".join(text for text in (str(one.fate), one.why) if text)
    named = {"id": number, "name": one.name, "says": says}
    return {**named, "plan": one.name, "cost": one.order, "fate": str(one.fate), "why": one.why}


def _ends(one: Outcome, figures: Figures) -> dict[str, float]:
    """The intervals of a verified plan's figures."""
    known = {} if one.verification is None else one.verification.ends
    found: dict[str, float] = {}
    for place, column in enumerate(figures.columns):
        if column in known:
            low, high = known[column].widest
            found |= {low_of(field(place)): low, high_of(field(place)): high}
    return found


def _cost(result: PlanResult) -> dict[str, Any]:
    return {"field": "cost", "type": "quantitative", "title": _cost_title(result), "scale": {"zero": False, "nice": False, "padding": 16}}


def _fates(result: PlanResult) -> tuple[dict[str, Any], dict[str, Any]]:
    """Colour and shape, with the fates that there are in the legend."""
    found = {one.fate for one in result.outcomes}
    present = {str(fate): shade for fate, shade in _COLOURS.items() if fate in found}
    return by_name("fate", present, shapes={str(fate): _SHAPES.get(fate, "square") for fate in _COLOURS})


def _cost_title(result: PlanResult) -> str:
    return "USD an hour" if all(one.usd_per_hour is not None for one in result.outcomes) else "devices"


def pictures_of(result: PlanResult) -> Iterator[tuple[str, str, Figure]]:
    """The first chart as a picture, for pages without the library: (name, caption, figure)."""
    from simserve.report.plots.style import LIMIT_COLOUR, figure_of, one, style

    ran = [each for each in result.outcomes if each.values and each.fraction >= 1.0]
    limit = result.limits[0] if result.limits else None
    column = limit.quantity.column if limit is not None else "ttft_p99_s"
    shown = [(each, value) for each in ran if (value := each.values.get(column)) is not None]
    if not shown:
        return
    with style():
        ax = one(None, (7.6, 3.8))
        for fate in _COLOURS:
            points = [(each.order, value) for each, value in shown if each.fate == fate]
            if points:
                xs, ys = zip(*points, strict=True)
                marker = "x" if _SHAPES.get(fate) == "cross" else "o"
                ax.plot(xs, ys, marker, color=_COLOURS[fate], markersize=6, label=str(fate))
        if limit is not None:
            ax.axhline(limit.bound, color=LIMIT_COLOUR, linestyle="--", linewidth=1.0, label=limit.text)
        ax.set_xlabel(_cost_title(result))
        ax.set_ylabel(title_with_unit(column))
        ax.legend()
    yield "pareto", "Plans simulated in full: what they cost, and what users get.", figure_of(ax)
