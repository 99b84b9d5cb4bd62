"""Charts that answer to a pointer: Vega-Lite specifications, with the library inside the page.

The library (Vega, Vega-Lite and Vega-Embed, 0.9 MB) comes with the package vl-convert-python, the extra `charts` of simserve; a page
without it has pictures. `templates/charts.html.j2` draws what is here, `study/figure_charts.py` makes what studies share.

A chart may have choices (which figure, which axis). Where the specification holds the text "@NAME.KEY" stands, once something is chosen,
KEY of what was chosen under NAME: any JSON, so that an axis changes its field, its title and its scale together.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from simserve.report.page import pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INSTALL = "pip install 'simserve[charts]' makes these plots interactive"

_MANY_POINTS = 1500
"""From which on a canvas is drawn: a browser is slow with so many elements."""

_AXIS = {
    "gridColor": "#edf1f4",
    "domainColor": "#b9c5d0",
    "tickColor": "#b9c5d0",
    "labelColor": "#1c2733",
    "titleColor": "#5a6b7b",
    "titleFontWeight": 600,
    "labelFontSize": 12,
    "titleFontSize": 12,
    "labelLimit": 150,
    "labelOverlap": "greedy",
    "labelSeparation": 6,
}


class Option(NamedTuple):
    """What may be chosen: how it is called, and what it puts in the places of the specification that ask for it."""

    label: str
    value: Mapping[str, Any]


class Choice(NamedTuple):
    """A list beside a chart. `label` stands before it; the option number `first` is chosen at first."""

    name: str
    label: str
    options: tuple[Option, ...]
    first: int = 0


class Chart(NamedTuple):
    """A specification with the name of its place in the page and its caption.

    item  rows of the data with an `id` belong to the element of the page called so with the id behind: a point opens it
    """

    name: str
    caption: str
    spec: dict[str, Any]
    choices: tuple[Choice, ...] = ()
    item: str = ""

    @property
    def json(self) -> str:
        """The chart as a script may hold it: a text in it cannot end the script."""
        choices = [
            {"name": each.name, "label": each.label, "first": each.first, "options": [option._asdict() for option in each.options]}
            for each in self.choices
        ]
        text = json.dumps({"spec": self.spec, "choices": choices, "item": self.item}, allow_nan=False)
        return text.replace("</", "<\\/").replace("<!--", "<\\!--")

    @property
    def first(self) -> dict[str, Any]:
        """The specification with what is chosen at first."""
        chosen = {each.name: each.options[each.first].value for each in self.choices}
        found: dict[str, Any] = _filled(self.spec, chosen)
        return found

    @property
    def points(self) -> int:
        """Rows of its data."""
        return len(self.spec["data"]["values"])


def _filled(node: Any, chosen: Mapping[str, Mapping[str, Any]]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, chosen) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, chosen) for value in node]
    if isinstance(node, str) and node.startswith("@"):
        name, _, key = node[1:].partition(".")
        return chosen[name][key] if name in chosen else node
    return node


@functools.lru_cache(maxsize=1)
def library() -> str:
    """The script of the library; "" where it is not installed."""
    try:
        import vl_convert  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return ""
    bundle: Any = vl_convert.javascript_bundle  # its stub asks for a snippet that its documentation does not
    return str(bundle())


def drawings(charts: Callable[[], Iterable[Chart | None]], figures: Callable[[], Iterable[tuple[str, str, Figure]]]) -> dict[str, Any]:
    """What `charts.html.j2` is given: the charts that there are, or where the library is missing the figures as pictures."""
    script = library()
    shown = [chart for chart in charts() if chart is not None] if script else []
    many = sum(chart.points for chart in shown) > _MANY_POINTS
    return {
        "charts": shown,
        "library": script if shown else "",
        "renderer": "canvas" if many else "svg",
        "install": "" if script else INSTALL,
        "plots": [] if shown else pictures(figures()),
    }


def chart(rows: Sequence[Mapping[str, Any]], height: int, **spec: Any) -> dict[str, Any]:
    """A specification as wide as its place, in the type and colours of the pages. `rows` are its data; what is not a number is left out."""
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding", "resize": True},
        "background": "#ffffff",
        "data": {"values": list(rows)},
        "config": {
            "font": 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif',
            "view": {"stroke": None},
            "axis": _AXIS,
            "axisQuantitative": {"tickCount": 8},
            "axisX": {"titleAnchor": "end"},
            "legend": {
                "orient": "bottom",
                "columns": {"expr": "width < 420 ? 1 : 2"},
                "labelLimit": 220,
                "labelFontSize": 12,
                "title": None,
            },
        },
        **spec,
    }
