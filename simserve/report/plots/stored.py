"""`StoredResult.plot`: the plots that a result's files still allow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simserve.report.frontier import Felt, fractions_of, slo_frontier
from simserve.report.plots.panels import Metrics, draw_panels, dressed
from simserve.report.plots.run import CAPTIONS
from simserve.report.plots.style import figure_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class StoredPlots:
    """Plots of a run that was read back: `requests` as in requests.parquet, `end_s` of the run, its SLO (limit -> seconds).

    Plots of steps, memory and single tokens need the run itself (`Result.plot`). Arguments and errors are as there.
    """

    name: str
    requests: pd.DataFrame
    end_s: float
    limits: dict[str, float]

    def latency_cdf(
        self, metric: Metrics = None, ax: Axes | Sequence[Axes] | None = None, *, title: str | bool = True, legend: bool = True
    ) -> list[Axes]:
        """Distributions over requests. Metrics: ttft_s, tpot_s, e2e_s, itl_max_s (these four by itself), queueing_s and
        normalized_latency_s_per_token."""
        from simserve.report.plots.requests import cdf_panels

        return draw_panels(cdf_panels([(self.name, self.requests)], self.limits), metric, ax, title, legend)

    def latency_over_time(
        self, metric: Metrics = None, ax: Axes | Sequence[Axes] | None = None, *, title: str | bool = True, legend: bool = True
    ) -> list[Axes]:
        """TTFT, and requests in the system, over simulated time. Metrics: ttft_s, requests."""
        from simserve.report.plots.requests import over_time_panels

        return draw_panels(over_time_panels(self.requests, self.end_s), metric, ax, title, legend)

    def frontier(self, ax: Axes | None = None, *, title: str | bool = True, legend: bool = True) -> Axes:
        """Which limits on TTFT and TPOT 50, 90 and 99 % of the requests meet."""
        return dressed([slo_frontier(fractions_of(Felt.of_frame(self.requests)), self.limits, ax=ax)], title, legend)[0]

    def figures(self, wanted: Collection[str]) -> Iterator[tuple[str, str, Figure]]:
        """(file name without suffix, caption, figure) of those of the wanted plots of a report that can be drawn."""
        plots: dict[str, tuple[str, Callable[[], Axes]]] = {
            "latency_cdf": ("Latency distributions over requests. Dotted: the SLO.", lambda: self.latency_cdf()[0]),
            "latency_over_time": ("Latency over time, and requests in the system.", lambda: self.latency_over_time()[0]),
            "frontier": (CAPTIONS["frontier"], self.frontier),
        }
        for name, (caption, draw) in plots.items():
            if name in wanted:
                yield name, caption, figure_of(draw())
