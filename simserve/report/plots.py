"""`Result.plot`: every plot of a run as a method that returns matplotlib axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simserve.report.metrics import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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

    def timeline(self, requests: int = 60, start_s: float = 0.0, ax: Axes | None = None) -> Axes:
        """The first requests as bars: waiting, prefill, decode."""
        from simserve.report.plot_timeline import timeline

        return timeline(self.measurement, requests, start_s, ax)

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """(file name without suffix, caption, figure) of the plots of the report, one at a time to keep memory small."""
        yield "latency_cdf", "Latency distributions. Dotted: the SLO.", _figure(self.latency_cdf()[0])
        yield "latency_over_time", "Latency over time. Grey: outside the measured window.", _figure(self.latency_over_time()[0])
        yield (
            "queue_and_batch",
            "Requests that wait for their first step, and requests in the running steps.",
            _figure(self.queue_and_batch()[0]),
        )
        yield "kv_usage", "Use of the KV cache.", _figure(self.kv_usage())
        yield "throughput", "Throughput over time.", _figure(self.throughput()[0])
        yield "step_time", "Time of a step against the tokens in it.", _figure(self.step_time())


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure
