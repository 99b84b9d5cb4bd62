"""`StoredResult.plot`: the plots that a result's files still allow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simserve.report.frontier import Felt, shares_of, slo_frontier
from simserve.report.plots import CAPTIONS, figure_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class StoredPlots:
    """Plots of a run that was read back: `requests` as in requests.parquet, `end_s` of the run, its SLO (limit -> seconds).

    Plots of steps, memory and single tokens need the run itself (`Result.plot`).
    """

    name: str
    requests: pd.DataFrame
    end_s: float
    limits: dict[str, float]

    def latency_cdf(self) -> list[Axes]:
        """Distributions of TTFT, TPOT, E2E and each request's longest gap."""
        from simserve.report.plot_requests import latency_cdf

        return latency_cdf([(self.name, self.requests)], self.limits)

    def latency_over_time(self) -> list[Axes]:
        """TTFT, and requests in the system, over simulated time."""
        from simserve.report.plot_requests import latency_over_time

        return latency_over_time(self.requests, self.end_s)

    def frontier(self, ax: Axes | None = None) -> Axes:
        """Which limits on TTFT and TPOT 50, 90 and 99 % of the requests meet."""
        return slo_frontier(shares_of(Felt.of_frame(self.requests)), self.limits, ax=ax)

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
