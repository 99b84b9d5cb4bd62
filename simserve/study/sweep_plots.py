"""`SweepResult.plot`: figures against keys, and figures against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simserve.errors import ConfigError, nearest
from simserve.report.plot_style import COLOURS, log_seconds, nothing, one, style
from simserve.study.labels import short, title, title_with_unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MAX_SERIES = len(COLOURS)


@dataclass(frozen=True, slots=True)
class SweepPlots:
    """`points` has one row for each point of the sweep: means over seeds. Every method takes axes to draw into, or makes its own."""

    points: pd.DataFrame
    keys: tuple[str, ...]

    def lines(self, y: str = "ttft_p99_s", x: str | None = None, by: str | None = None, ax: Axes | None = None) -> Axes:
        """A figure against a key, one line for each value of another. Default: the first numeric key, by the first other one."""
        x = x or next((key for key in self.keys if _numeric(self.points[key])), None)
        if x is None:
            raise ConfigError(f"none of {', '.join(self.keys) or 'no keys'} is numeric: say what x is")
        by = by or next((key for key in self.keys if key != x), None)
        return self._draw(x, y, by, ax, line=True)

    def frontier(self, x: str = "tpot_p99_s", y: str = "ttft_p99_s", by: str | None = None, ax: Axes | None = None) -> Axes:
        """Two figures against each other: the points that no other beats in both are joined (low is good in both)."""
        by = by or next((key for key in self.keys if not _numeric(self.points[key])), None)
        ax = self._draw(x, y, by, ax, line=False)
        best = _undominated(self.points[[x, y]].dropna())
        with style():
            if len(best) > 1:
                ax.plot(best[x], best[y], color="#777777", linewidth=1.0, linestyle="--", zorder=1, label="not dominated")
                ax.legend()
        return ax

    def _draw(self, x: str, y: str, by: str | None, ax: Axes | None, *, line: bool) -> Axes:
        for name in (x, y, *([by] if by else [])):
            if name not in self.points.columns:
                raise ConfigError(f"the sweep has no column '{name}'{nearest(name, self.points.columns)}")
        with style():
            ax = one(ax, (7.6, 3.8))
            series = _series(self.points, by)
            names = short([value for value, _ in series])
            for number, (value, rows) in enumerate(series):
                rows = rows[[x, y]].dropna().sort_values(x)
                label = None if by is None else names[value]
                colour = COLOURS[number % _MAX_SERIES]
                ax.plot(rows[x], rows[y], marker="o", markersize=4, linestyle="-" if line else "none", color=colour, label=label)
            if not len(self.points[[x, y]].dropna()):
                nothing(ax, "no point has both figures")
            ax.set_xlabel(title_with_unit(x))
            ax.set_ylabel(title_with_unit(y))
            if not _wide_seconds(self.points, y):
                ax.set_ylim(bottom=0)
            else:
                log_seconds(ax.yaxis)
                ax.set_ylabel(title(y))
            if not line and _wide_seconds(self.points, x):
                log_seconds(ax.xaxis)
                ax.set_xlabel(title(x))
            if by is not None and series:
                ax.legend(title=title(by))
        return ax


def _series(points: pd.DataFrame, by: str | None) -> list[tuple[Any, pd.DataFrame]]:
    if by is None:
        return [(None, points)]
    return [(value, rows) for value, rows in points.groupby(by, sort=True)][: 2 * _MAX_SERIES]


def _wide_seconds(points: pd.DataFrame, column: str) -> bool:
    """Whether a column of seconds spreads over more than a linear axis shows: from milliseconds to the minutes of an overloaded point."""
    if not column.endswith("_s") or column.endswith("_per_s"):
        return False
    values = points[column].dropna()
    return len(values) > 1 and values.min() > 0 and bool(values.max() / values.min() > 30)


def _undominated(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that no other row beats in the first column without losing in the second; sorted by the first."""
    ordered = rows.sort_values(list(rows.columns))
    second = ordered.iloc[:, 1]
    kept: pd.DataFrame = ordered[second < second.cummin().shift(fill_value=float("inf"))]
    return kept


def _numeric(column: Any) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(column)) and not is_bool_dtype(column)
