"""Plots of several panels: which of them are drawn, into which axes; and the switches of titles and legends that every plot has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from simserve.errors import ConfigError, nearest
from simserve.report.plots.style import figure_of, grid, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metrics = str | Sequence[str] | None
"""Names of panels: one, several, or None for those that the plot shows by itself."""


class Panels(NamedTuple):
    """What a plot can draw: a function for each name, the names it draws by itself, and their arrangement in a figure of its own."""

    draw: Mapping[str, Callable[[Axes], None]]
    usual: tuple[str, ...]
    columns: int
    size_in: tuple[float, float]
    share_x: bool = False


def draw_panels(panels: Panels, metric: Metrics, ax: Axes | Sequence[Axes] | None, title: str | bool, legend: bool) -> list[Axes]:
    """Draw the panels of those names, each into the axes given for it or all into a new figure. Returns their axes, in that order.

    Raises ConfigError for a name that the plot does not have, and for axes that are too few or too many.
    """
    names = panels.usual if metric is None else (metric,) if isinstance(metric, str) else tuple(metric)
    for name in names:
        if name not in panels.draw:
            raise ConfigError(f"this plot has no metric '{name}'{nearest(name, list(panels.draw))}")
    with style():
        into = _axes(panels, names) if ax is None else _given(ax, names)
        for one, name in zip(into, names, strict=True):
            panels.draw[name](one)
        if ax is None and panels.share_x:
            for one in into[:-1]:
                one.set_xlabel("")
    return dressed(into, title, legend)


def _axes(panels: Panels, names: tuple[str, ...]) -> list[Axes]:
    columns = min(panels.columns, len(names))
    rows, usual_rows = -(-len(names) // columns), -(-len(panels.usual) // panels.columns)
    width, height = panels.size_in
    size_in = (
        width if columns == panels.columns else min(width, 7.6),
        height * rows / usual_rows if rows > 1 else max(height / usual_rows, 3.2),
    )
    found = grid(rows, columns, size_in, sharex=panels.share_x)[1].ravel()
    for spare in found[len(names) :]:
        spare.set_visible(False)
    return list(found[: len(names)])


def _given(ax: Axes | Iterable[Axes], names: tuple[str, ...]) -> list[Axes]:
    import numpy as np

    axes = list(np.asarray(ax, dtype=object).ravel())  # what pyplot.subplots returns is an array of any shape
    if len(axes) != len(names):
        raise ConfigError(f"{len(names)} axes are needed for {', '.join(names)}, and {len(axes)} were given (metric= says what to draw)")
    return axes


def dressed(axes: list[Axes], title: str | bool, legend: bool) -> list[Axes]:
    """The axes with their titles as drawn (True), without (False), or with a text: instead of the one title, above several panels."""
    with style():
        if isinstance(title, str) and len(axes) > 1:
            figure_of(axes[0]).suptitle(title)
        elif title is not True:
            for ax in axes:
                ax.set_title(title or "")
        if not legend:
            for ax in axes:
                if (own := ax.get_legend()) is not None:
                    own.remove()
    return axes
