"""The charts of a plan search: cost against what users get, and how busy each plan is at best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simserve.report.charts import Chart, chart
from simserve.report.plots.style import COLOURS
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
    Fate.OVERLOADED: "#b9c5d0",
    Fate.TOO_SLOW: "#b9c5d0",
    Fate.IMPOSSIBLE: "#b9c5d0",
}
_SHAPES = {Fate.VERIFIED: "circle", Fate.HELD: "circle", Fate.FAILED: "cross", Fate.REFUTED: "cross"}
_MOST_POINTS = 4000


def charts(result: PlanResult) -> list[Chart]:
    """The charts that have anything to show."""
    return [each for each in (_pareto(result), _busy(result)) if each is not None]


def _pareto(result: PlanResult) -> Chart | None:
    ran = [(number, one) for number, one in enumerate(result.outcomes) if one.values and one.fraction >= 1.0]
    columns = list(dict.fromkeys((*(limit.quantity.column for limit in result.limits), *result.figures_shown)))
    columns = [column for column in columns if any(one.values.get(column) is not None for _, one in ran)]
    if not ran or not columns:
        return None
    front = {id(one) for one in result.pareto}
    bounds = {limit.quantity.column: limit.bound for limit in result.limits}
    rows = [
        {**_row(number, one), "front": id(one) in front, **_figure(one, column, value), "limit": bounds.get(column)}
        for number, one in ran
        for column in columns
        if (value := one.values.get(column)) is not None
    ]
    labels = [title_with_unit(column) for column in columns]
    named = {"field": "cost", "type": "quantitative", "title": _cost_title(result), "scale": {"zero": False, "padding": 16}}
    height = {"field": "value", "type": "quantitative", "title": None, "scale": {"zero": False, "padding": 16}}
    hints = [{"field": field, "title": title} for field, title in _HINTS]
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rule", "color": "#444444", "strokeDash": [4, 4]},
            "transform": [{"filter": "isValid(datum.limit)"}],
            "encoding": {"y": {"field": "limit", "type": "quantitative", "aggregate": "max"}, "x": {}},
        },
        {
            "mark": {"type": "line", "interpolate": "linear", "color": COLOURS[2], "opacity": 0.5},
            "transform": [{"filter": "datum.front"}],
            "encoding": {"x": named, "y": height, "order": {"field": "cost"}},
        },
        {"mark": {"type": "rule", "opacity": 0.6}, "encoding": {"x": named, "y": {**height, "field": "low"}, "y2": {"field": "high"}}},
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 0.95, "cursor": "pointer"},
            "encoding": {"x": named, "y": height, "color": _colour(result), "shape": _shape(result), "tooltip": hints},
        },
    ]
    choice = {"input": "select", "options": columns, "labels": labels, "name": "figure "}
    spec = chart(
        rows,
        380,
        params=[{"name": "figure", "value": columns[0], "bind": choice}],
        transform=[{"filter": "datum.column == figure"}],
        layer=layers,
    )
    caption = "Plans simulated in full. Bars: the interval of a verified figure; dashed: the limit; line: the plans that no other beats."
    return Chart("pareto", caption, spec)


def _busy(result: PlanResult) -> Chart | None:
    found = [(number, one) for number, one in enumerate(result.outcomes) if one.utilisation]
    if not found:
        return None
    found = sorted(found, key=lambda pair: abs((pair[1].utilisation or 0.0) - 1.0))[:_MOST_POINTS]
    rows = [{**_row(number, one), "busy": one.utilisation} for number, one in sorted(found)]
    hints = [{"field": field, "title": title} for field, title in (*_HINTS[:4], ("busy", "utilisation at best"))]
    spec = chart(
        rows,
        300,
        layer=[
            {"mark": {"type": "rule", "color": "#444444", "strokeDash": [4, 4]}, "encoding": {"y": {"datum": 1.0}}},
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.8, "cursor": "pointer"},
                "encoding": {
                    "x": {"field": "cost", "type": "quantitative", "title": _cost_title(result), "scale": {"zero": False, "padding": 16}},
                    "y": {"field": "busy", "type": "quantitative", "title": None, "scale": {"type": "log"}},
                    "color": _colour(result),
                    "shape": _shape(result),
                    "tooltip": hints,
                },
            },
        ],
    )
    return Chart("busy", "Utilisation of each plan's busiest pool at best, by the capacity bound: above 1 it is overloaded.", spec)


_HINTS = (("plan", "plan"), ("fate", "fate"), ("cost", "cost"), ("why", "why"), ("value", "value"))


def _row(number: int, one: Outcome) -> dict[str, Any]:
    return {"id": number, "plan": one.name, "cost": one.order, "devices": one.devices, "fate": str(one.fate), "why": one.why}


def _figure(one: Outcome, column: str, value: float) -> dict[str, Any]:
    ends = None if one.verification is None else one.verification.ends.get(column)
    known = {} if ends is None else {"low": ends.widest[0], "high": ends.widest[1]}
    return {"column": column, "value": value, **known}


def _cost_title(result: PlanResult) -> str:
    return "USD an hour" if all(one.usd_per_hour is not None for one in result.outcomes) else "devices"


def _colour(result: PlanResult) -> dict[str, Any]:
    present = _present(result)
    scale = {"domain": [str(fate) for fate in present], "range": [_COLOURS[fate] for fate in present]}
    return {"field": "fate", "type": "nominal", "scale": scale}


def _shape(result: PlanResult) -> dict[str, Any]:
    present = _present(result)
    scale = {"domain": [str(fate) for fate in present], "range": [_SHAPES.get(fate, "square") for fate in present]}
    return {"field": "fate", "type": "nominal", "scale": scale}


def _present(result: PlanResult) -> list[Fate]:
    """The fates that there are, in the order of the legend."""
    found = {one.fate for one in result.outcomes}
    return [fate for fate in _COLOURS if fate in found]


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
