"""The charts of a capacity search: every figure along the load, with the bracket that was found; two figures against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simserve.report.charts import Chart, chart
from simserve.report.plots.style import COLOURS
from simserve.study.figure_charts import FILLED, HOLDS, Figures, axis, hint, limit_line, scale_of
from simserve.study.limits import limits, tightest
from simserve.study.quantities import standard
from simserve.study.rate_key import unit

if TYPE_CHECKING:
    from simserve.study.capacity.result import CapacityResult

ITEM = "probe-"
"""The row of a probe in the page's table is called so, with its number behind."""

_FIRST = ("ttft_p99_s", "tpot_p99_s", "goodput_per_s", "attainment", "output_tokens_per_s", "usd_per_million_output_tokens")


def charts(result: CapacityResult) -> Iterator[Chart]:
    """Of a finished search."""
    frame = result.frame
    if not len(frame):
        return
    found = limits(result.predicate)
    edge = result.edge
    binds = None if edge is None else tightest(found, edge.values)
    first = () if binds is None else (binds[0].quantity.column,)
    bounds = {limit.quantity.column: limit.bound for limit in found}
    tested = [quantity.column for quantity in result.predicate.quantities]
    figures = Figures(frame, [quantity.column for quantity in standard()], (*first, *bounds, *tested, *_FIRST), bounds)
    what = unit(result.rate_key)
    rows = []
    for place, (seed, rate, holds, reasons) in enumerate(zip(frame["seed"], frame["rate"], frame["holds"], frame["reasons"], strict=True)):
        named = {"id": place, "name": f"{rate:.4g} {what}, seed {seed}", "says": reasons or ("holds" if holds else "fails")}
        rows.append({**named, "load": float(rate), "seed": str(seed), "holds": "holds" if holds else "fails", **figures.row(place)})
    load = {"field": "load", "type": "quantitative", "title": f"load, {what}", "scale": scale_of(frame["rate"].tolist())}
    colour, shape = HOLDS
    hints = [{"field": "name", "title": "run"}, {"field": "says", "title": "outcome"}]
    layers: list[dict[str, Any]] = [
        *_found(result, load),
        limit_line("y"),
        {
            "mark": {"type": "line", "color": "#aaaaaa", "strokeWidth": 1},
            "encoding": {"x": load, "y": axis("y"), "detail": {"field": "seed"}},
        },
        {"mark": FILLED, "encoding": {"x": load, "y": axis("y"), "color": colour, "shape": shape, "tooltip": [*hints, hint("y")]}},
    ]
    caption = (
        "Every run of the search. Band: from the highest load that held to the lowest that failed, each seed's; upright: the capacity; "
    )
    yield Chart("load", f"{caption}dashed: the limit.", chart(rows, 380, layer=layers), (figures.choice("y", "figure"),), ITEM)
    if len(figures.columns) > 1:
        x, y = axis("x"), axis("y")
        path = {"detail": {"field": "seed"}, "order": {"field": "load"}}
        layers = [
            limit_line("y"),
            {"mark": {"type": "line", "color": "#aaaaaa", "strokeWidth": 1}, "encoding": {"x": x, "y": y, **path}},
            {"mark": FILLED, "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "tooltip": [*hints, hint("x"), hint("y")]}},
        ]
        others = (figures.choice("y", "figure", "ttft_p99_s"), figures.choice("x", "against", "tpot_p99_s", *figures.columns[1:]))
        yield Chart("frontier", "Two figures along the load, joined in its order.", chart(rows, 340, layer=layers), others, ITEM)


def _found(result: CapacityResult, load: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The bracket of each seed, and the answer."""
    ends = [{"low": each.low, "high": each.high} for each in result.replicates if each.low is not None and each.high is not None]
    if ends:
        yield {
            "data": {"values": ends},
            "mark": {"type": "rect", "color": COLOURS[0], "opacity": 0.16},
            "encoding": {"x": {**load, "field": "low"}, "x2": {"field": "high"}},
        }
    if result.rate is not None:
        yield {
            "data": {"values": [{"load": result.rate, "name": f"capacity {result.rate:.4g}"}]},
            "mark": {"type": "rule", "color": COLOURS[0], "strokeWidth": 1.5},
            "encoding": {"x": load, "tooltip": {"field": "name", "title": "answer"}},
        }
