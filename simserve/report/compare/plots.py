"""`Comparison.plot`: several runs in the same axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simserve.report.frontier import Curve, Felt, slo_frontier
from simserve.report.plots.panels import Metrics, draw_panels, dressed
from simserve.report.plots.style import figure_of, style
from simserve.report.rows import value_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simserve.report.compare.comparable import Comparable


@dataclass(frozen=True, slots=True)
class ComparisonPlots:
    """The plots of several runs. Arguments and errors are those of `Result.plot`."""

    names: tuple[str, ...]
    results: tuple[Comparable, ...]

    def latency_cdf(
        self, metric: Metrics = None, ax: Axes | Sequence[Axes] | None = None, *, title: str | bool = True, legend: bool = True
    ) -> list[Axes]:
        """Distributions over requests, a line for each run. Metrics: ttft_s, tpot_s, e2e_s, itl_max_s (these four by itself), queueing_s
        and normalized_latency_s_per_token."""
        from simserve.report.plots.requests import cdf_panels, share_legend

        runs = list(zip(self.names, (result.requests for result in self.results), strict=True))
        axes = draw_panels(cdf_panels(runs, self._limits()), metric, ax, title, legend)
        if ax is None and legend and len(axes) > 1 and len(runs) > 1:
            with style():
                share_legend(axes, len(runs))
        return axes

    def frontier(self, fraction: float = 0.9, ax: Axes | None = None, *, title: str | bool = True, legend: bool = True) -> Axes:
        """Which limits on TTFT and TPOT a fraction of the requests meets, a line for each run."""
        felt = (Felt.of_frame(result.requests) for result in self.results)
        curves = [Curve(name, of, fraction) for name, of in zip(self.names, felt, strict=True)]
        return dressed([slo_frontier(curves, self._limits(), f"{100 * fraction:.3g} % of the", ax)], title, legend)[0]

    def goodput(self, ax: Axes | None = None, *, title: str | bool = True, legend: bool = True) -> Axes:
        """Requests finished per second, and those that met the SLO."""
        from simserve.report.plots.requests import goodput

        summaries = [result.summary_dict() for result in self.results]
        finished = [value_at(summary, ("throughput", "requests_per_s")) or 0.0 for summary in summaries]
        good = [value_at(summary, ("slo", "all", "goodput_per_s")) for summary in summaries]
        return dressed([goodput(self.names, finished, good, ax)], title, legend)[0]

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """(file name without suffix, caption, figure) of the plots of the page."""
        yield "latency_cdf", "Latency distributions over requests. Dotted: the SLO that all runs share.", figure_of(self.latency_cdf()[0])
        caption = "Limits above and to the right of a line are met by 90 % of the requests of that run."
        yield "frontier", caption, figure_of(self.frontier())
        yield "goodput", "Requests finished, and those within the SLO.", figure_of(self.goodput())

    def _limits(self) -> dict[str, float]:
        """The SLO's limits where they are the same in every run."""
        slos = [(result.summary_dict()["slo"] or {}).get("all", {}).get("limits") or {} for result in self.results]
        return {key: value for key, value in slos[0].items() if value is not None and all(slo.get(key) == value for slo in slos)}
