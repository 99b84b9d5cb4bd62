"""`Result.plot`: every plot of a run as a method that returns matplotlib axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simserve.engine.records import Status
from simserve.report.metrics import Measurement, common_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTIONS = {
    "latency_cdf": "Latency distributions. Dotted: the SLO.",
    "latency_over_time": "Latency over time. Grey: outside the measured window.",
    "queue_and_batch": "Requests that wait for their first step, and requests in the running steps.",
    "kv_usage": "Use of the KV cache.",
    "throughput": "Throughput over time.",
    "step_time": "Time of a step against the tokens in it.",
    "frontier": "Limits above and to the right of a line are met by that share of the requests.",
}
"""The plots of the report, in its order: each is a method of `Plots` and a file in plots/."""


@dataclass(frozen=True, slots=True)
class Plots:
    """The plots of one run. Methods with `ax` draw into the axes they are given; the others make a figure with several axes."""

    measurement: Measurement

    def latency_cdf(self) -> list[Axes]:
        """Distributions of TTFT, ITL, TPOT and E2E with the SLO."""
        from simserve.report.plot_latency import latency_cdf

        return latency_cdf(self.measurement)

    def latency_over_time(self) -> list[Axes]:
        """TTFT and ITL over simulated time."""
        from simserve.report.plot_latency import latency_over_time

        return latency_over_time(self.measurement)

    def queue_and_batch(self) -> list[Axes]:
        """Waiting requests and batch size over simulated time."""
        from simserve.report.plot_load import queue_and_batch

        return queue_and_batch(self.measurement)

    def kv_usage(self, ax: Axes | None = None) -> Axes:
        """KV cache in use over simulated time."""
        from simserve.report.plot_load import kv_usage

        return kv_usage(self.measurement, ax)

    def throughput(self) -> list[Axes]:
        """Tokens and requests per second over simulated time."""
        from simserve.report.plot_load import throughput

        return throughput(self.measurement)

    def step_time(self, ax: Axes | None = None) -> Axes:
        """Step time against the tokens in the step."""
        from simserve.report.plot_load import step_time

        return step_time(self.measurement, ax)

    def frontier(self, ax: Axes | None = None) -> Axes:
        """Which limits on TTFT and TPOT 50, 90 and 99 % of the requests meet."""
        from simserve.report.frontier import Felt, shares_of, slo_frontier

        m = self.measurement
        completed = np.asarray(m.records.requests.status == Status.COMPLETED)
        felt = Felt.of(completed, m.in_window & (m.records.table.output_tokens > 0), m.requests.ttft_s, m.requests.tpot_s)
        return slo_frontier(shares_of(felt), common_limits(m), ax=ax)

    def timeline(self, requests: int = 60, start_s: float = 0.0, ax: Axes | None = None) -> Axes:
        """The first requests as bars: waiting, prefill, decode."""
        from simserve.report.plot_timeline import timeline

        return timeline(self.measurement, requests, start_s, ax)

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """(file name without suffix, caption, figure) of the plots of the report, one at a time to keep memory small."""
        for name, caption in CAPTIONS.items():
            drawn = getattr(self, name)()
            yield name, caption, figure_of(drawn[0] if isinstance(drawn, list) else drawn)


def figure_of(ax: Axes) -> Figure:
    """The figure that axes are on."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure
