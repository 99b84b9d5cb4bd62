"""Plots of one or several runs from their request columns alone: what requests.parquet holds, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.report.plot_style import COLOURS, LIMIT_COLOUR, duration, grid, legend_above, log_seconds, nothing, one, style, time_unit
from simserve.report.series import cdf_points, level_in_bins, percentiles_in_bins

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_PANELS = (
    ("ttft_s", "Time to first token (TTFT)"),
    ("tpot_s", "Time per output token (TPOT)"),
    ("e2e_s", "End to end (E2E)"),
    ("itl_max_s", "Longest gap between two tokens"),
)
_BINS = 200
_MAX_DOTS = 4000


def latency_cdf(runs: Sequence[tuple[str, pd.DataFrame]], limits: Mapping[str, float]) -> list[Axes]:
    """Cumulative distributions over the requests of the measured windows, a line for each run. Four axes.

    `limits` are those of the SLO that all runs share, by name (seconds); they are dotted lines.
    """
    with style():
        figure, axes = grid(2, 2, (9.2, 6.0))
        for ax, (column, title) in zip(axes.ravel(), _PANELS, strict=True):
            drawn = False
            for number, (name, requests) in enumerate(runs):
                value, share = cdf_points(requests.loc[requests["in_window"], column].to_numpy(dtype=np.float64))
                positive = value > 0  # a logarithmic axis has no 0
                drawn |= bool(positive.any())
                ax.step(value[positive], 100 * share[positive], where="post", label=name, **_look(number))
            if column in limits:
                ax.axvline(limits[column], color=LIMIT_COLOUR, linestyle=":", linewidth=1.3, label=f"SLO: {duration(limits[column])}")
                ax.legend(ax.lines[-1:], [f"SLO: {duration(limits[column])}"], loc="lower right")
            if drawn:
                log_seconds(ax.xaxis)
                ax.set_ylim(0, 101)
            else:
                nothing(ax, "no request has this quantity")
            ax.set_title(title)
            ax.set_ylabel("requests, %")
        if len(runs) > 1:
            figure.legend(*_first(axes[0, 0], len(runs)), loc="outside upper left", ncols=min(len(runs), 3), fontsize=9)
        return list(axes.ravel())


def latency_over_time(requests: pd.DataFrame, end_s: float) -> list[Axes]:
    """TTFT by release time (dots, median, p99), and requests waiting and in the system. Two axes that share their time axis."""
    with style():
        edges = np.linspace(0.0, max(end_s, 1e-9), _BINS + 1)
        unit_s, unit = time_unit(end_s)
        middle = (edges[1:] + edges[:-1]) / 2 / unit_s
        _, axes = grid(2, 1, (9.2, 5.6), sharex=True)
        top, bottom = axes[0, 0], axes[1, 0]
        released, ttft = (requests[name].to_numpy(dtype=np.float64) for name in ("released_s", "ttft_s"))
        known = np.flatnonzero(ttft > 0)
        if len(known):
            dots = known[:: 1 + len(known) // _MAX_DOTS]
            label = "requests" if len(dots) == len(known) else "a sample of requests"
            top.plot(released[dots] / unit_s, ttft[dots], ".", color="#888888", markersize=3, markeredgewidth=0, alpha=0.6, label=label)
            for row, name, colour in zip(percentiles_in_bins(released, ttft, edges, (0.5, 0.99)), ("p50", "p99"), COLOURS, strict=False):
                seen = ~np.isnan(row)
                top.plot(middle[seen], row[seen], color=colour, label=name)
            log_seconds(top.yaxis)
            legend_above(top)
        else:
            nothing(top, "no tokens")
        top.set_title("TTFT by time of release")
        for name, until, colour in (("in the system", "finish_s", COLOURS[2]), ("waiting", "scheduled_s", COLOURS[5])):
            bottom.plot(middle, level_in_bins(released, _until(requests, until, end_s), edges)[0], color=colour, label=name)
        bottom.set_title("Requests (time average)")
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel(f"simulated time, {unit}")
        legend_above(bottom)
        return [top, bottom]


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


def _first(ax: Axes, lines: int) -> tuple[Sequence[Any], list[str]]:
    handles = ax.lines[:lines]
    return handles, [_short(str(line.get_label())) for line in handles]


def _short(name: str) -> str:
    return name if len(name) <= 34 else name[:15] + "…" + name[-18:]


def _until(requests: pd.DataFrame, column: str, end_s: float) -> Any:
    """When something ended for each request: at its verdict where it never happened, at the run's end where there is none."""
    time = requests[column].fillna(requests["finish_s"]).fillna(end_s)
    return time.to_numpy(dtype=np.float64)
