"""Plots of one or several runs from their request columns alone: what requests.parquet holds, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.catalogue import OF_REQUESTS, Metric
from simserve.report.plots.latency import PERCENTILES, percentile_lines
from simserve.report.plots.panels import Panels
from simserve.report.plots.style import (
    COLOURS,
    LIMIT_COLOUR,
    duration,
    figure_of,
    latency_axis,
    legend_above,
    log_seconds,
    nothing,
    one,
    style,
    time_unit,
)
from simserve.report.series import cdf_points, level_in_bins, percentiles_in_bins

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_BINS = 200
_MAX_DOTS = 4000

Runs = Sequence[tuple[str, "pd.DataFrame"]]


def cdf_panels(runs: Runs, limits: Mapping[str, float]) -> Panels:
    """Cumulative distributions over the requests of the measured windows, a line for each run.

    `limits` are those of the SLO that all runs share, by name (seconds); they are dotted lines.
    """
    known = [metric for metric in OF_REQUESTS if all(metric.name in requests for _, requests in runs)]  # stored runs may be older
    draw = {metric.name: partial(_cdf, runs, limits, metric) for metric in known}
    return Panels(draw, ("ttft_s", "tpot_s", "e2e_s", "itl_max_s"), 2, (9.2, 6.0))


def _cdf(runs: Runs, limits: Mapping[str, float], metric: Metric, ax: Axes) -> None:
    column = metric.name
    drawn = False
    for number, (name, requests) in enumerate(runs):
        value, fraction = cdf_points(requests.loc[requests["in_window"], column].to_numpy(dtype=np.float64))
        positive = value > 0  # a logarithmic axis has no 0
        drawn |= bool(positive.any())
        ax.step(value[positive], 100 * fraction[positive], where="post", label=_short(name), **_look(number))
    if column in limits:
        ax.axvline(limits[column], color=LIMIT_COLOUR, linestyle=":", linewidth=1.3, label=f"SLO: {duration(limits[column])}")
    if drawn:
        latency_axis(ax, metric.axis)
        if len(runs) > 1 or column in limits:
            ax.legend(*_named(ax, runs), loc="lower right")
    else:
        nothing(ax, "no request has this quantity")
    ax.set_title(metric.title)
    ax.set_ylabel("requests, %")


def _named(ax: Axes, runs: Runs) -> tuple[list[Any], list[str]]:
    """Lines and labels of a legend; one run needs no name."""
    handles = list(ax.lines) if len(runs) > 1 else list(ax.lines[-1:])
    return handles, [str(line.get_label()) for line in handles]


def share_legend(axes: list[Axes], runs: int) -> None:
    """One legend of the runs above all panels of a figure, instead of one in each: only the SLO's is left there."""
    handles = axes[0].lines[:runs]
    figure_of(axes[0]).legend(
        handles, [str(line.get_label()) for line in handles], loc="outside upper left", ncols=min(runs, 3), fontsize=9
    )
    for ax in axes:
        rest = ax.lines[runs:]
        if rest:
            ax.legend(rest, [str(line.get_label()) for line in rest], loc="lower right")
        elif (own := ax.get_legend()) is not None:
            own.remove()


def over_time_panels(requests: pd.DataFrame, end_s: float) -> Panels:
    """TTFT by release time (dots, median, p95, p99), and requests waiting and in the system, over simulated time."""
    draw = {"ttft_s": partial(_ttft_over_time, requests, end_s), "requests": partial(_requests_over_time, requests, end_s)}
    return Panels(draw, ("ttft_s", "requests"), 1, (9.2, 5.6), True)


def _ttft_over_time(requests: pd.DataFrame, end_s: float, ax: Axes) -> None:
    edges, (unit_s, unit) = _edges(end_s), time_unit(end_s)
    released, ttft = (requests[name].to_numpy(dtype=np.float64) for name in ("released_s", "ttft_s"))
    known = np.flatnonzero(ttft > 0)
    if len(known):
        dots = known[:: 1 + len(known) // _MAX_DOTS]
        label = "requests" if len(dots) == len(known) else "a sample of requests"
        ax.plot(released[dots] / unit_s, ttft[dots], ".", color="#888888", markersize=3, markeredgewidth=0, alpha=0.6, label=label)
        percentile_lines(ax, edges / unit_s, percentiles_in_bins(released, ttft, edges, PERCENTILES))
        log_seconds(ax.yaxis)
        legend_above(ax)
    else:
        nothing(ax, "no tokens")
    ax.set_title("TTFT by time of release")
    ax.set_ylabel("TTFT")
    ax.set_xlabel(f"simulated time, {unit}")


def _requests_over_time(requests: pd.DataFrame, end_s: float, ax: Axes) -> None:
    edges, (unit_s, unit) = _edges(end_s), time_unit(end_s)
    middle = (edges[1:] + edges[:-1]) / 2 / unit_s
    released = requests["released_s"].to_numpy(dtype=np.float64)
    for name, until, colour in (("in the system", "finish_s", COLOURS[2]), ("waiting", "scheduled_s", COLOURS[5])):
        ax.plot(middle, level_in_bins(released, _until(requests, until, end_s), edges)[0], color=colour, label=name)
    ax.set_title("Requests (time average)")
    ax.set_ylabel("requests")
    ax.set_ylim(bottom=0)
    ax.set_xlabel(f"simulated time, {unit}")
    legend_above(ax)


def _edges(end_s: float) -> Any:
    return np.linspace(0.0, max(end_s, 1e-9), _BINS + 1)


def goodput(names: Sequence[str], finished: Sequence[float], good: Sequence[float | None], ax: Axes | None = None) -> Axes:
    """Bars, one a run: requests finished per second, and in them those that met the SLO."""
    with style():
        ax = one(ax, (7.6, 1.1 + 0.42 * len(names)))
        place = np.arange(len(names))
        met = [float("nan") if value is None else value for value in good]
        ax.barh(place, finished, color="#c9d3dc", height=0.62, label="finished")
        if any(value is not None for value in good):
            ax.barh(place, met, color=COLOURS[0], height=0.62, label="met the SLO (goodput)")
            legend_above(ax)
        for row, (all_of_them, within) in enumerate(zip(finished, good, strict=True)):
            text = f"{all_of_them:.3g}" if within is None else f"{within:.3g} of {all_of_them:.3g}"
            ax.annotate(text, (max(all_of_them, within or 0.0), row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5)
        ax.set_yticks(place, [_short(name) for name in names])
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        ax.margins(x=0.16)
        ax.set_xlim(left=0)
        ax.set_title("Throughput")
        ax.set_xlabel("requests/s")
        return ax


def _look(number: int) -> dict[str, Any]:
    """Colours first; then the same ones dashed."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": "-" if number < len(COLOURS) else (0, (4, 2))}


def _short(name: str) -> str:
    return name if len(name) <= 34 else name[:15] + "…" + name[-18:]


def _until(requests: pd.DataFrame, column: str, end_s: float) -> Any:
    """When something ended for each request: at its verdict where it never happened, at the run's end where there is none."""
    time = requests[column].fillna(requests["finish_s"]).fillna(end_s)
    return time.to_numpy(dtype=np.float64)
