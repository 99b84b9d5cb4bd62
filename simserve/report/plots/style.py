"""How plots look: colours for every eye, readable sizes; and who owns a figure."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008): tell apart with any colour vision. Yellow is left out: too light for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LIMIT_COLOUR = "#444444"
_DPI = 110
_COMPRESSION = 3
"""zlib's level: its usual 6 takes half as long again, for a tenth of the bytes."""
# The sparsest of these ticks per decade that leaves enough of them on an axis: with fewer than two matplotlib falls back to linear ones.
_LOG_STEPS: tuple[tuple[float, ...], ...] = (
    (1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0),
    tuple(1.0 + k / 2 for k in range(18)), tuple(1.0 + k / 5 for k in range(45)), tuple(1.0 + k / 10 for k in range(90)),
)  # fmt: skip
_FEWEST_TICKS = 3

_STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # where it is anyway: left open, matplotlib looks at every tick label whether it is in the way
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


_off_screen: ContextVar[bool] = ContextVar("off_screen", default=False)
_even: ContextVar[bool] = ContextVar("even", default=False)

# Margins of panels in inches: tick labels of up to eight characters and the axis' label, a title with a legend beside it.
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.9, 0.1, 0.5, 0.32
_LEGEND_COLUMNS = 4


@contextmanager
def style() -> Iterator[None]:
    """Context in which figures are made and drawn. It leaves pyplot's backend and the rcParams of the caller as they were."""
    import matplotlib

    if _shown():
        _choose_backend()
    with matplotlib.rc_context(_STYLE):
        yield


def load_matplotlib() -> None:
    """Imports matplotlib in two thirds of the time: without the lists of properties that it writes into the documentation of its hundred
    artists. For commands; in a session of a user's `help` would miss them."""
    from matplotlib import artist

    lists, artist.kwdoc = artist.kwdoc, lambda _: ""  # type: ignore[assignment, unused-ignore]
    try:
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401
    finally:
        artist.kwdoc = lists


@contextmanager
def off_screen(even: bool = False) -> Iterator[None]:
    """Context in which figures are made for files: they belong to no notebook, and none shows them.

    even  panels have margins of one size, whatever stands in them: measuring it takes longer than drawing
    """
    tokens = _off_screen.set(True), _even.set(even)
    try:
        yield
    finally:
        _off_screen.reset(tokens[0])
        _even.reset(tokens[1])


def grid(rows: int, columns: int, size_in: tuple[float, float], **subplots: Any) -> tuple[Figure, Any]:
    """A figure and its axes (array rows x columns).

    In a notebook, and wherever the caller has imported pyplot, the figure is pyplot's: it is shown below its cell or by `pyplot.show()`.
    Elsewhere, and `off_screen`, it belongs to the caller alone.
    """
    if _shown():
        from matplotlib import pyplot

        figure: Figure = pyplot.figure(figsize=size_in, layout="constrained")
    else:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as BareFigure

        figure = BareFigure(figsize=size_in, layout=None if _even.get() else "constrained")
        FigureCanvasAgg(figure)
        if _even.get():
            subplots = {**subplots, "gridspec_kw": _margins(rows, columns, size_in, bool(subplots.get("sharex")))}
    axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    for ax in axes.ravel():
        # matplotlib makes most ticks when it draws, with the rcParams of then; a notebook draws when the cell has ended.
        ax.tick_params(
            which="both", labelsize=_STYLE["font.size"], grid_color=_STYLE["grid.color"], grid_linewidth=_STYLE["grid.linewidth"]
        )
    return figure, axes


def _margins(rows: int, columns: int, size_in: tuple[float, float], share_x: bool) -> dict[str, float]:
    """Margins of a grid of panels, as parts of the figure and, between panels, of a panel."""
    width, height = size_in
    between = _TOP + (0.12 if share_x else _BOTTOM)
    panel_width = (width - _RIGHT * columns - _LEFT * columns) / columns
    panel_height = (height - _TOP - _BOTTOM - between * (rows - 1)) / rows
    return {
        "left": _LEFT / width, "right": 1 - _RIGHT / width, "bottom": _BOTTOM / height, "top": 1 - _TOP / height,
        "wspace": (_LEFT + _RIGHT) / panel_width, "hspace": between / panel_height,
    }  # fmt: skip


def one(ax: Axes | None, size_in: tuple[float, float] = (7.6, 3.4)) -> Axes:
    """The given axes, or those of a new figure."""
    if ax is not None:
        return ax
    axes: Axes = grid(1, 1, size_in)[1][0, 0]
    return axes


def figure_of(ax: Axes) -> Figure:
    """The figure that axes are on."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG. Same figure, same bytes: no date and no version inside."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with style():
        if isinstance(figure.canvas, FigureCanvasAgg) and not _shown():
            # `Figure.savefig` draws twice, once to find the layout: a fifth of the time, and the same picture.
            figure.set_dpi(_DPI)
            if figure.get_layout_engine() is None and any(_rows_above(ax) > 1 for ax in figure.axes):
                figure.set_layout_engine("constrained")
            figure.canvas.print_png(  # type: ignore[no-untyped-call, unused-ignore]
                buffer, metadata={"Software": None}, pil_kwargs={"compress_level": _COMPRESSION}
            )
        else:
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
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=_LEGEND_COLUMNS, borderpad=0.1, handlelength=1.6)


def _rows_above(ax: Axes) -> int:
    """Rows of the legend above the axes."""
    legend = ax.get_legend()
    entries = len(legend.get_texts()) if legend is not None else 0
    return -(-entries // _LEGEND_COLUMNS)


def log_seconds(axis: Any) -> None:
    """Make an axis logarithmic, with ticks written as durations, as many as its range needs."""
    _logarithmic(axis, duration)


def log_numbers(axis: Any) -> None:
    """The same with ticks written as plain numbers."""
    _logarithmic(axis, lambda value: f"{value:g}")


def _logarithmic(axis: Any, text: Callable[[float], str]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if axis.axis_name == "x":
        axis.axes.set_xscale("log")
        low, high = axis.axes.get_xlim()
    else:
        axis.axes.set_yscale("log")
        low, high = axis.axes.get_ylim()
    steps = next((steps for steps in _LOG_STEPS if _ticks_within(steps, low, high) >= _FEWEST_TICKS), _LOG_STEPS[-1])
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_locator(NullLocator())  # each mark is a tick of its own: those between took a fifth of all drawing


def _ticks_within(steps: tuple[float, ...], low: float, high: float) -> int:
    """How many multiples of powers of ten lie on the axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return sum(low <= step * 10.0**decade <= high for decade in decades for step in steps)


def latency_axis(ax: Axes, label: str) -> None:
    """Make axes those of a distribution: durations from left to right, 0 to 100 % upwards."""
    log_seconds(ax.xaxis)
    ax.set_xlabel(f"{label} (logarithmic)")
    ax.set_ylim(0, 101)


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


def _shown() -> bool:
    """Whether new figures are pyplot's: in a notebook, or where pyplot is in use already."""
    if _off_screen.get():
        return False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "matplotlib.pyplot" in sys.modules or (shell is not None and hasattr(shell, "kernel"))


def _choose_backend() -> None:
    """Let pyplot load its backend now. It does so for its first figure, and a notebook's backend then sets rcParams (`interactive`, without
    which no figure is shown): inside an rc_context they would be lost when that ends."""
    from matplotlib import pyplot

    if not pyplot.get_fignums():  # with a figure it has a backend; and there is nothing to draw without one
        pyplot.draw_if_interactive()  # type: ignore[no-untyped-call, unused-ignore]
