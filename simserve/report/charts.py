"""Charts that answer to a pointer: Vega-Lite specifications, with the library inside the page.

The library (Vega, Vega-Lite and Vega-Embed, 0.9 MB) comes with the package vl-convert-python, the extra `charts` of simserve; a page
without it has the pictures only.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

INSTALL = "pip install 'simserve[charts]' makes these plots interactive"

_AXIS = {
    "gridColor": "#edf1f4",
    "domainColor": "#b9c5d0",
    "tickColor": "#b9c5d0",
    "labelColor": "#1c2733",
    "titleColor": "#5a6b7b",
    "titleFontWeight": 600,
    "labelFontSize": 12,
    "titleFontSize": 12,
}


class Chart(NamedTuple):
    """A specification with the name of its place in the page and its caption."""

    name: str
    caption: str
    spec: dict[str, Any]

    @property
    def json(self) -> str:
        """The specification as a script may hold it: a text in it cannot end the script."""
        return json.dumps(self.spec, allow_nan=False).replace("</", "<\\/").replace("<!--", "<\\!--")


@functools.lru_cache(maxsize=1)
def library() -> str:
    """The script of the library; "" where it is not installed."""
    try:
        import vl_convert  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return ""
    bundle: Any = vl_convert.javascript_bundle  # its stub asks for a snippet that its documentation does not
    return str(bundle())


def chart(rows: Sequence[dict[str, Any]], height: int, **spec: Any) -> dict[str, Any]:
    """A specification as wide as its place, in the type and colours of the pages. `rows` are its data; what is not a number is left out."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding", "resize": True},
        "background": "#ffffff",
        "data": {"values": list(rows)},
        "config": {
            "font": 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif',
            "view": {"stroke": None},
            "axis": _AXIS,
            "legend": {"orient": "bottom", "columns": 2, "labelLimit": 220, "labelFontSize": 12, "title": None},
        },
        **spec,
    }
