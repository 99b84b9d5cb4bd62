"""Plots of a figure over the keys of a sweep: a map over two of them, or a panel for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.report.plots.style import COLOURS, grid, log_seconds, nothing, style
from simserve.study.cells import figure
from simserve.study.labels import short, title, title_with_unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_CELLS = 600
_WRITTEN_CELLS = 100
_PANELS = 6
_NAMED_VALUES = 12
_FEW = 6


def crossed(points: pd.DataFrame, keys: Sequence[str]) -> bool:
    """Whether two keys form a map: several values each, and a point for nearly every pair."""
    if len(keys) != 2:
        return False
    rows, columns = (int(points[key].nunique()) for key in keys)
    pairs = len(points[list(keys)].drop_duplicates())
    return bool(min(rows, columns) > 1 and rows * columns <= _MOST_CELLS and pairs >= 0.8 * rows * columns)


def heat_map(points: pd.DataFrame, x: str, by: str, y: str, ax: Axes) -> Axes:
    """Cells of the median of `y`; rows are values of `by` (the first at the bottom), columns of `x`."""
    from matplotlib.colors import LogNorm

    with style():
        table = points.pivot_table(index=by, columns=x, values=y, aggfunc="median", dropna=True)
        if not table.size:
            nothing(ax, "no point has this figure")
            return ax
        values = table.to_numpy(dtype=np.float64)
        scale = LogNorm() if wide_seconds(points, y) else None
        image = ax.pcolormesh(np.ma.masked_invalid(values), cmap="cividis", norm=scale, edgecolors="white", linewidth=0.8)
        for set_ticks, labels in ((ax.set_xticks, table.columns), (ax.set_yticks, table.index)):
            names = short(labels.tolist())
            set_ticks(np.arange(len(labels)) + 0.5, [_cut(names[value]) for value in labels])
        shade: Any = np.ma.filled(np.ma.asarray(image.norm(np.ma.masked_invalid(values))), 1.0)
        if table.size <= _WRITTEN_CELLS:
            for (row, column), value in np.ndenumerate(values):
                if math.isfinite(value):
                    colour = "white" if shade[row, column] < 0.55 else "black"
                    ax.text(column + 0.5, row + 0.5, figure(y, value), ha="center", va="center", color=colour, fontsize=8)
        ax.grid(visible=False)
        if max(len(_cut(str(value))) for value in table.columns) * len(table.columns) > 70:
            ax.tick_params(axis="x", rotation=30)
        bar = ax.figure.colorbar(image, ax=ax)
        if scale is not None:
            log_seconds(bar.ax.yaxis)
        ax.set_title(title_with_unit(y) if scale is None else title(y))
        ax.set_xlabel(title_with_unit(x))
        ax.set_ylabel(title_with_unit(by))
        return ax


def by_key(points: pd.DataFrame, keys: Sequence[str], y: str) -> list[Axes]:
    """Panels, one a key: points as dots, medians as a line (bars where the values are names)."""
    with style():
        shown = keys[:_PANELS]
        columns = 2 if len(shown) == 4 else min(len(shown), 3)
        rows = -(-len(shown) // columns)
        _, axes = grid(rows, columns, (max(4.6, 3.1 * columns), 2.9 * rows), sharey=True)
        for ax, key in zip(axes.ravel(), shown, strict=False):
            known = points[[key, y]].dropna()
            if not len(known):
                nothing(ax, "no point has this figure")
            elif numeric(points[key]):
                ax.plot(known[key], known[y], "o", markersize=3.5, alpha=0.5, markeredgewidth=0, color=COLOURS[4])
                middle = _medians(known[key], known[y])
                ax.plot(middle[key], middle[y], color=COLOURS[0], marker=".")
            else:
                _named(ax, known, key, y)
            if wide_seconds(points, y):
                log_seconds(ax.yaxis)
            elif len(known):
                from_zero(ax, known[y])
            ax.set_xlabel(title_with_unit(key))
        for ax in axes.ravel()[len(shown) :]:
            ax.set_visible(False)
        for ax in axes[:, 0]:
            ax.set_ylabel(title(y) if wide_seconds(points, y) else title_with_unit(y))
        return list(axes.ravel()[: len(shown)])


def from_zero(ax: Axes, values: Any) -> None:
    """Makes the axis of y begin at 0, with space above the largest value."""
    largest = float(values.max())
    ax.set_ylim(0, 1.08 * largest if largest > 0 else None)


def _medians(x: pd.Series[Any], y: pd.Series[Any]) -> pd.DataFrame:
    """Medians of y for each value of x; where values hardly repeat, as in a sample, for groups of neighbouring values."""
    import pandas as pd

    table = pd.DataFrame({x.name: x, y.name: y})
    groups = x if x.nunique() <= max(_FEW, len(x) // 4) else pd.qcut(x, _FEW, duplicates="drop")
    return table.groupby(groups.to_numpy(), observed=True).median()


def _named(ax: Axes, known: pd.DataFrame, key: str, y: str) -> None:
    values = known[key].unique().tolist()[:_NAMED_VALUES]
    names = short(values)
    place = {value: number for number, value in enumerate(values)}
    rows = known[known[key].isin(values)]
    ax.plot(rows[key].map(place), rows[y], "o", markersize=3.5, alpha=0.5, markeredgewidth=0, color=COLOURS[4])
    medians = [rows.loc[rows[key] == value, y].median() for value in values]
    ax.plot(range(len(values)), medians, "_", markersize=16, markeredgewidth=2, color=COLOURS[0])
    ax.set_xticks(range(len(values)), [_cut(names[value]) for value in values], rotation=30, ha="right")
    ax.set_xlim(-0.6, len(values) - 0.4)


def wide_seconds(points: pd.DataFrame, column: str) -> bool:
    """Whether a column of seconds spreads over more than a linear axis shows: from milliseconds to the minutes of an overloaded point."""
    if not column.endswith("_s") or column.endswith("_per_s"):
        return False
    values = points[column].dropna()
    return len(values) > 1 and values.min() > 0 and bool(values.max() / values.min() > 30)


def numeric(column: Any) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(column)) and not is_bool_dtype(column)


def _cut(text: str) -> str:
    return text if len(text) <= 24 else text[:10] + "…" + text[-13:]
