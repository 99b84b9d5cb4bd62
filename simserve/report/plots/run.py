"""`Result.plot`: every plot of a run as a method that returns matplotlib axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simserve.engine.records import Status
from simserve.report.metrics import Measurement, common_limits
from simserve.report.plots.panels import Metrics, draw_panels, dressed
from simserve.report.plots.style import figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCALING_PLOT = "scaling"
"""Of runs that scale only."""

CAPTIONS = {
    SCALING_PLOT: "Instances and nodes over time against the load, with the requests that missed the SLO.",
    "latency_cdf": "Latency distributions. Dotted: the SLO.",
    "latency_over_time": "Latency over time. Grey: outside the measured window.",
    "queue_and_batch": "Requests that wait for their first step, and requests in the running steps.",
    "kv_usage": "Use of the KV cache.",
    "throughput": "Throughput over time.",
    "step_time": "Time of a step against the tokens in it.",
    "frontier": "Limits above and to the right of a line are met by that fraction of the requests.",
}
"""The plots of the report, in its order: each is a method of `Plots` and a file in plots/."""


@dataclass(frozen=True, slots=True)
class Plots:
    """The plots of one run.

    Every method draws into the matplotlib axes given as `ax`, or into a new figure: pyplot's in a notebook and where pyplot has been
    imported (so that it is shown), the caller's own elsewhere. `title=False` leaves titles out, a text replaces the title (of several
    panels: stands above them); `legend=False` leaves legends out.

    A plot of several panels takes `metric`, the name of one panel or a sequence of names, and as many axes (an array such as
    `pyplot.subplots` returns will do); it returns the list of axes that it drew into. The others return their axes.

    Raises ConfigError for a metric that the plot does not have, and for axes that are too few or too many.
    """

    measurement: Measurement

    def latency_cdf(
        self, metric: Metrics = None, ax: Axes | Sequence[Axes] | None = None, *, title: str | bool = True, legend: bool = True
    ) -> list[Axes]:
        """Distributions with the SLO. Metrics: ttft_s, itl_s, tpot_s, e2e_s (these four by itself), queueing_s, itl_max_s and
        normalized_latency_s_per_token."""
        from simserve.report.plots.latency import cdf_panels

        return draw_panels(cdf_panels(self.measurement), metric, ax, title, legend)

    def latency_over_time(
        self, metric: Metrics = None, ax: Axes | Sequence[Axes] | None = None, *, title: str | bool = True, legend: bool = True
    ) -> list[Axes]:
        """Latency over simulated time: requests, p50, p95 and p99. Metrics: ttft_s, itl_s."""
        from simserve.report.plots.latency import over_time_panels

        return draw_panels(over_time_panels(self.measurement), metric, ax, title, legend)

    def queue_and_batch(
        self, metric: Metrics = None, ax: Axes | Sequence[Axes] | None = None, *, title: str | bool = True, legend: bool = True
    ) -> list[Axes]:
        """Waiting requests and batch size over simulated time. Metrics: waiting, batch."""
        from simserve.report.plots.load import queue_and_batch_panels

        return draw_panels(queue_and_batch_panels(self.measurement), metric, ax, title, legend)

    def kv_usage(self, ax: Axes | None = None, *, title: str | bool = True, legend: bool = True) -> Axes:
        """KV cache in use over simulated time."""
        from simserve.report.plots.load import kv_usage

        return dressed([kv_usage(self.measurement, ax)], title, legend)[0]

    def throughput(
        self, metric: Metrics = None, ax: Axes | Sequence[Axes] | None = None, *, title: str | bool = True, legend: bool = True
    ) -> list[Axes]:
        """Tokens and requests per second over simulated time. Metrics: tokens, requests."""
        from simserve.report.plots.load import throughput_panels

        return draw_panels(throughput_panels(self.measurement), metric, ax, title, legend)

    def scaling(
        self, metric: Metrics = None, ax: Axes | Sequence[Axes] | None = None, *, title: str | bool = True, legend: bool = True
    ) -> list[Axes]:
        """Instances, nodes and load over simulated time, with the requests that missed the SLO. Metrics: instances, nodes, load."""
        from simserve.report.plots.scaling import scaling_panels

        return draw_panels(scaling_panels(self.measurement), metric, ax, title, legend)

    def step_time(self, ax: Axes | None = None, *, title: str | bool = True, legend: bool = True) -> Axes:
        """Step time against the tokens in the step."""
        from simserve.report.plots.load import step_time

        return dressed([step_time(self.measurement, ax)], title, legend)[0]

    def frontier(self, ax: Axes | None = None, *, title: str | bool = True, legend: bool = True) -> Axes:
        """Which limits on TTFT and TPOT 50, 90 and 99 % of the requests meet."""
        from simserve.report.frontier import Felt, fractions_of, slo_frontier

        m = self.measurement
        completed = np.asarray(m.records.requests.status == Status.COMPLETED)
        counts = m.in_window & (m.records.table.output_tokens > 0)
        felt = Felt.of(completed, counts, m.requests.column("ttft_s"), m.requests.column("tpot_s"))
        return dressed([slo_frontier(fractions_of(felt), common_limits(m), ax=ax)], title, legend)[0]

    def timeline(
        self, requests: int = 60, start_s: float = 0.0, ax: Axes | None = None, *, title: str | bool = True, legend: bool = True
    ) -> Axes:
        """The first requests released at or after `start_s` as bars: waiting, prefill, decode."""
        from simserve.report.plots.timeline import timeline

        return dressed([timeline(self.measurement, requests, start_s, ax)], title, legend)[0]

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """(file name without suffix, caption, figure) of the plots of the report, one at a time to keep memory small."""
        for name, caption in CAPTIONS.items():
            if name == SCALING_PLOT and self.measurement.records.scaling is None:
                continue
            drawn = getattr(self, name)()
            yield name, caption, figure_of(drawn[0] if isinstance(drawn, list) else drawn)
