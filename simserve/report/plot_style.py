"""How plots look: colours for every eye, readable sizes, figures without pyplot's global state."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008): tell apart with any colour vision. Yellow is left out: too light for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LIMIT_COLOUR = "#444444"
_DPI = 110

_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def style() -> Any:
    """Context in which figures are made and drawn."""
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def grid(rows: int, columns: int, size_in: tuple[float, float], **subplots: Any) -> tuple[Figure, Any]:
    """A figure and its axes (array rows x columns).

    In a notebook the figure belongs to pyplot, so that it is shown below its cell; elsewhere it belongs to nobody but the caller.
    """
    if _in_notebook():
        from matplotlib import pyplot

        figure: Figure = pyplot.figure(figsize=size_in, layout="constrained")
    else:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as BareFigure

        figure = BareFigure(figsize=size_in, layout="constrained")
        FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def one(ax: Axes | None, size_in: tuple[float, float] = (7.6, 3.4)) -> Axes:
    """The given axes, or those of a new figure."""
    if ax is not None:
        return ax
    axes: Axes = grid(1, 1, size_in)[1][0, 0]
    return axes


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG. Same figure, same bytes: no date and no version inside."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def write_png(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG file."""
    path.write_bytes(png_bytes(figure))


def nothing(ax: Axes, what: str) -> None:
    """Say on the axes that there is nothing to draw."""
    ax.text(0.5, 0.5, what, transform=ax.transAxes, ha="center", va="center", color="#666666")


def legend_above(ax: Axes) -> None:
    """A legend in one row above the axes, on the right of the title: it never hides data."""
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=4, borderpad=0.1, handlelength=1.6)


def log_seconds(axis: Any) -> None:
    """Make an axis logarithmic, with ticks written as durations, as many as its range needs."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axis.axis_name == "x":
        axis.axes.set_xscale("log")
        low, high = axis.axes.get_xlim()
    else:
        axis.axes.set_yscale("log")
        low, high = axis.axes.get_ylim()
    ratio = high / low
    subs = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if ratio < 4 else (1.0, 2.0, 5.0) if ratio < 60 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axis.set_minor_formatter(NullFormatter())


def duration(seconds: float) -> str:
    """A short label of a duration: 12 ms, 1.4 s."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def time_unit(length_s: float) -> tuple[float, str]:
    """(seconds per unit, name) in which a time axis of this length reads well."""
    for unit_s, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if length_s >= 4 * unit_s:
            return unit_s, name
    return 1.0, "s"


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")
