"""`SweepResult.plot`: figures against keys, and figures against each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simserve.errors import ConfigError, nearest
from simserve.report.plots.panels import dressed
from simserve.report.plots.style import COLOURS, figure_of, log_seconds, nothing, one, style
from simserve.study.labels import short, title, title_with_unit
from simserve.study.sweep.grid import by_key, crossed, from_zero, heat_map, numeric, wide_seconds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_SERIES = len(COLOURS)


@dataclass(frozen=True, slots=True)
class SweepPlots:
    """`points` has one row for each point of the sweep: means over seeds. `ax`, `title` and `legend` are those of `Result.plot`;
    the figures are named by `x` and `y`, columns of the sweep."""

    points: pd.DataFrame
    keys: tuple[str, ...]

    def lines(
        self,
        y: str = "ttft_p99_s",
        x: str | None = None,
        by: str | None = None,
        ax: Axes | None = None,
        *,
        title: str | bool = True,
        legend: bool = True,
    ) -> Axes:
        """A figure against a key, one line for each value of another. Default: the first numeric key, by the first other one."""
        x = x or next((key for key in self.keys if numeric(self.points[key])), None)
        if x is None:
            raise ConfigError(f"none of {', '.join(self.keys) or 'no keys'} is numeric: say what x is")
        by = by or next((key for key in self.keys if key != x), None)
        return dressed([self._draw(x, y, by, ax, line=True)], title, legend)[0]

    def heat_map(
        self,
        y: str = "goodput_per_s",
        x: str | None = None,
        by: str | None = None,
        ax: Axes | None = None,
        *,
        title: str | bool = True,
        legend: bool = True,
    ) -> Axes:
        """A figure over two keys as coloured cells; where there are more keys, the median over them. Default: the first two keys."""
        by, x = by or next((key for key in self.keys if key != x), None), x or next((key for key in self.keys[1:] if key != by), None)
        if x is None or by is None:
            raise ConfigError("a heat map needs two keys")
        self._known(x, by, y)
        return dressed([heat_map(self.points, x, by, y, one(ax, (7.6, 4.2)))], title, legend)[0]

    def by_key(self, y: str = "ttft_p99_s", *, title: str | bool = True, legend: bool = True) -> list[Axes]:
        """A figure against each key: all points, and their median for each value. One axes a key, for the first six keys."""
        self._known(y)
        if not self.keys:
            raise ConfigError("the sweep has no keys, only seeds")
        return dressed(by_key(self.points, self.keys, y), title, legend)

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """(file name without suffix, caption, figure) of the plots of the report: what suits the sweep's keys."""
        rest = ["goodput_per_s"] if self._has("goodput_per_s") else ["output_tokens_per_s"]
        for y in (name for name in ("ttft_p99_s", "tpot_p99_s", *rest) if self.keys and self._has(name)):
            what = title_with_unit(y)
            numbers = [key for key in self.keys if numeric(self.points[key])]
            others = [key for key in self.keys if key not in numbers[:1]]
            if numbers and len(self.keys) <= 2 and all(self.points[key].nunique() <= _MAX_SERIES for key in others):
                yield f"lines_{y}", f"{what}, by {' and '.join(self.keys)}.", figure_of(self.lines(y))
            elif not crossed(self.points, self.keys[:2]) or len(self.keys) > 2:
                caption = f"{what}, against each key: every point, and medians (of groups of values in a sample)."
                yield f"keys_{y}", caption, figure_of(self.by_key(y)[0])
            if crossed(self.points, self.keys[:2]):
                more = ", the median over the other keys" if len(self.keys) > 2 else ""
                yield f"map_{y}", f"{what}, over {self.keys[0]} and {self.keys[1]}{more}.", figure_of(self.heat_map(y))
        if self._has("tpot_p99_s") and self._has("ttft_p99_s"):
            yield "frontier", "Tails of TTFT and TPOT of all points: low is good in both.", figure_of(self.frontier())

    def _has(self, column: str) -> bool:
        return column in self.points.columns and bool(self.points[column].notna().any())

    def _known(self, *columns: str) -> None:
        for name in columns:
            if name not in self.points.columns:
                raise ConfigError(f"the sweep has no column '{name}'{nearest(name, self.points.columns)}")

    def frontier(
        self,
        x: str = "tpot_p99_s",
        y: str = "ttft_p99_s",
        by: str | None = None,
        ax: Axes | None = None,
        *,
        title: str | bool = True,
        legend: bool = True,
    ) -> Axes:
        """Two figures against each other: the points that no other beats in both are joined (low is good in both)."""
        by = by or next((key for key in self.keys if not numeric(self.points[key])), None)
        ax = self._draw(x, y, by, ax, line=False)
        best = _undominated(self.points[[x, y]].dropna())
        with style():
            if len(best) > 1:
                ax.plot(best[x], best[y], color="#777777", linewidth=1.0, linestyle="--", zorder=1, label="not dominated")
                ax.legend()
        return dressed([ax], title, legend)[0]

    def _draw(self, x: str, y: str, by: str | None, ax: Axes | None, *, line: bool) -> Axes:
        self._known(x, y, *([by] if by else []))
        with style():
            ax = one(ax, (7.6, 3.8))
            series = _series(self.points, by)
            names = short([value for value, _ in series])
            for number, (value, rows) in enumerate(series):
                rows = rows[[x, y]].dropna().sort_values(x)
                label = None if by is None else names[value]
                colour = COLOURS[number % _MAX_SERIES]
                ax.plot(rows[x], rows[y], marker="o", markersize=4, linestyle="-" if line else "none", color=colour, label=label)
            shown = self.points[[x, y]].dropna()
            if not len(shown):
                nothing(ax, "no point has both figures")
            ax.set_xlabel(title_with_unit(x))
            ax.set_ylabel(title_with_unit(y))
            if not wide_seconds(self.points, y):
                if len(shown):
                    from_zero(ax, shown[y])
            else:
                log_seconds(ax.yaxis)
                ax.set_ylabel(title(y))
            if not line and wide_seconds(self.points, x):
                log_seconds(ax.xaxis)
                ax.set_xlabel(title(x))
            if by is not None and series:
                ax.legend(title=title(by))
        return ax


def _series(points: pd.DataFrame, by: str | None) -> list[tuple[Any, pd.DataFrame]]:
    if by is None:
        return [(None, points)]
    return [(value, rows) for value, rows in points.groupby(by, sort=True)][: 2 * _MAX_SERIES]


def _undominated(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that no other row beats in the first column without losing in the second; sorted by the first."""
    ordered = rows.sort_values(list(rows.columns))
    second = ordered.iloc[:, 1]
    kept: pd.DataFrame = ordered[second < second.cummin().shift(fill_value=float("inf"))]
    return kept
