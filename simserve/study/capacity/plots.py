"""`CapacityResult.plot`: what users get as the load grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simserve.report.plots.panels import dressed
from simserve.report.plots.style import COLOURS, LIMIT_COLOUR, figure_of, log_seconds, nothing, one, style
from simserve.study.labels import title_with_unit
from simserve.study.rate_key import unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class CapacityPlots:
    """`probes` has one row for each run (see CapacityResult.frame), `capacity` is the answer (None = there is none).

    `ax`, `title` and `legend` are those of `Result.plot`.
    """

    probes: pd.DataFrame
    rate_key: str
    capacity: float | None

    def goodput(self, ax: Axes | None = None, *, title: str | bool = True, legend: bool = True) -> Axes:
        """Goodput against the rate: it follows the load, bends, and falls. Without an SLO: requests finished per second."""
        with style():
            ax = one(ax, (7.6, 3.8))
            column = "goodput_per_s" if self.probes["goodput_per_s"].notna().any() else "requests_per_s"
            means = self.probes.groupby("rate")[[column, "arrivals_per_s"]].mean()
            ax.plot(means.index, means[column], color=COLOURS[0], zorder=2)
            for holds, colour, label in ((True, COLOURS[2], "holds"), (False, COLOURS[1], "fails")):
                rows = self.probes[self.probes["holds"] == holds]
                ax.plot(
                    rows["rate"], rows[column], "o" if holds else "x", color=colour, markersize=5, label=f"a run that {label}", zorder=3
                )
            if self.rate_key.endswith("rate_per_s"):
                ends = [0.0, min(float(means.index.max()), 1.6 * float(means[column].max()))]
                ax.plot(ends, ends, color="#999999", linestyle=":", linewidth=1.2, label="all that is offered")
            if self.capacity is not None:
                ax.axvline(self.capacity, color=LIMIT_COLOUR, linestyle="--", linewidth=1.0, label=f"capacity {self.capacity:.3g}")
            ax.set_xlabel(f"load, {unit(self.rate_key)}")
            ax.set_ylabel("goodput, requests/s" if column == "goodput_per_s" else "requests finished, 1/s")
            ax.margins(y=0.1)
            ax.set_xlim(left=0)
            ax.set_ylim(bottom=0)
            ax.legend()
        return dressed([ax], title, legend)[0]

    def frontier(
        self, x: str = "tpot_p99_s", y: str = "ttft_p99_s", ax: Axes | None = None, *, title: str | bool = True, legend: bool = True
    ) -> Axes:
        """Two latencies against each other along the load, a line for each seed; points of the first are labelled with their rate."""
        with style():
            ax = one(ax, (7.6, 3.8))
            runs = self.probes[["seed", "rate", "holds", x, y]].dropna()
            ax.set_xlabel(title_with_unit(x).removesuffix(", s"))
            ax.set_ylabel(title_with_unit(y).removesuffix(", s"))
            if not len(runs):
                nothing(ax, "no run has both figures")
                return dressed([ax], title, legend)[0]
            for _, rows in runs.groupby("seed"):
                ax.plot(rows[x], rows[y], color="#aaaaaa", linewidth=0.8, zorder=1)
            for holds, colour, label in ((True, COLOURS[2], "holds"), (False, COLOURS[1], "fails")):
                rows = runs[runs["holds"] == holds]
                ax.plot(rows[x], rows[y], "o" if holds else "x", color=colour, markersize=5, label=label)
            log_seconds(ax.xaxis)
            log_seconds(ax.yaxis)
            first = runs[runs["seed"] == runs["seed"].iloc[0]].set_index("rate")
            for rate in _spread(first[[x, y]]):
                place = (first[x][rate], first[y][rate])
                ax.annotate(f"{rate:.3g}", place, xytext=(5, -10), textcoords="offset points", fontsize=8, color="#444444")
            ax.legend(title=f"labels: {unit(self.rate_key)}")
        return dressed([ax], title, legend)[0]

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """(file name without suffix, caption, figure) of the plots of the report."""
        yield "goodput", "What users get as the load grows.", figure_of(self.goodput())
        yield "frontier", "Tails of TTFT and TPOT along the load; labels are loads.", figure_of(self.frontier())


def _spread(points: pd.DataFrame) -> list[float]:
    """Rates whose points are far enough from each other that their labels can be read."""
    import numpy as np

    logs = np.log(points.clip(lower=1e-9).to_numpy())
    size = np.maximum(np.ptp(logs, axis=0), 1e-9)
    kept: list[int] = []
    for number in range(len(logs) - 1, -1, -1):
        if all(np.max(np.abs(logs[number] - logs[other]) / size) > 0.07 for other in kept):
            kept.append(number)
    return [float(points.index[number]) for number in kept]
