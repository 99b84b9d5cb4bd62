"""Plots of what users feel: distributions of latency, and latency over time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from simserve.catalogue import METRICS, Metric
from simserve.engine.records import F64
from simserve.report.columns import Mask
from simserve.report.metrics import ALL_CLASSES, Measurement, class_masks
from simserve.report.plots.panels import Panels
from simserve.report.plots.style import COLOURS, LIMIT_COLOUR, duration, latency_axis, legend_above, log_seconds, nothing, time_unit
from simserve.report.series import bin_edges, cdf_points, itl_percentiles_in_bins, percentiles_in_bins
from simserve.report.slo import limits_of_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LIMITS = {"itl_s": ("itl_s", "itl_max_s", "itl_p99_s", "itl_p95_s"), "itl_max_s": ("itl_s", "itl_max_s")}
PERCENTILES = (0.5, 0.95, 0.99)
"""Of the lines over time."""
_MAX_CLASSES = 6
_MAX_DOTS = 4000


def cdf_panels(m: Measurement) -> Panels:
    """Cumulative distributions by SLO class with the SLO as dotted lines: TTFT, ITL, TPOT and E2E by themselves."""
    draw = {metric.name: partial(_cdf, m, metric) for metric in METRICS if metric.name in m.latency[ALL_CLASSES]}
    return Panels(draw, tuple(metric.name for metric in METRICS if metric.headline), 2, (9.2, 6.0))


def _cdf(m: Measurement, metric: Metric, ax: Axes) -> None:
    masks = class_masks(m.records)
    names = [ALL_CLASSES] if len(masks) == 1 else [name for name in masks if name != ALL_CLASSES][:_MAX_CLASSES]
    drawn = False
    for number, name in enumerate(names):
        drawn |= _cdf_line(ax, m, metric, name, masks[name] & m.in_window, number)
    if drawn:
        _limits(ax, m, _LIMITS.get(metric.name, (metric.name,)))
        latency_axis(ax, metric.axis)
        ax.legend(loc="lower right")
    else:
        nothing(ax, "no request has this quantity")
    ax.set_title(f"{metric.title}, {'per request' if metric.over == 'request' else f'all {metric.over}s'}")
    ax.set_ylabel(f"{metric.over}s, %")


def _cdf_line(ax: Axes, m: Measurement, metric: Metric, name: str, rows: Mask, number: int) -> bool:
    of_request = metric.over == "request"
    value, fraction = cdf_points(m.requests.column(metric.name)[rows]) if of_request else m.gaps.cdf(rows, metric.over == "emission")
    positive = value > 0  # a logarithmic axis has no 0
    if not bool(positive.any()):
        return False
    stats = m.latency[name][metric.name]
    label = f"p50 {duration(stats.p50)}, p95 {duration(stats.p95)}, p99 {duration(stats.p99)}"
    # Dashed lines above solid ones: classes that behave alike lie on top of each other.
    ax.step(
        value[positive],
        100 * fraction[positive],
        where="post",
        color=COLOURS[number % len(COLOURS)],
        linestyle=(0, (4, 2)) if number % 2 else "-",
        label=label if name == ALL_CLASSES else f"{name}: {label}",
    )
    return True


def _limits(ax: Axes, m: Measurement, keys: tuple[str, ...]) -> None:
    seen = set()
    for name in m.records.table.slo_class.names:
        for key, limit in limits_of_class(m.limits, name).items():
            if key in keys and limit is not None and (key, limit) not in seen:
                seen.add((key, limit))
                whose = f"SLO of {name}" if len(limits_used(m)) > 1 else "SLO"
                ax.axvline(limit, color=LIMIT_COLOUR, linestyle=":", linewidth=1.3, label=f"{whose}: {_percentile(key)}{duration(limit)}")


def limits_used(m: Measurement) -> set[str]:
    """The classes of the workload that have limits."""
    return {name for name in m.records.table.slo_class.names if limits_of_class(m.limits, name)}


def _percentile(key: str) -> str:
    return f"{key.split('_')[1]} " if key.startswith("itl_p") else ""


def over_time_panels(m: Measurement) -> Panels:
    """TTFT by release time (dots, median, p95, p99) and ITL by token time (median, p95, p99), over simulated time."""
    return Panels({"ttft_s": partial(_ttft_over_time, m), "itl_s": partial(_itl_over_time, m)}, ("ttft_s", "itl_s"), 1, (9.2, 5.6), True)


def _ttft_over_time(m: Measurement, ax: Axes) -> None:
    edges, (unit_s, unit) = bin_edges(m.records), time_unit(m.records.end_s)
    released, ttft = m.records.requests.released_s, m.requests.column("ttft_s")
    known = np.flatnonzero(~np.isnan(ttft))
    dots = known[:: 1 + len(known) // _MAX_DOTS]
    what = "requests" if len(dots) == len(known) else "a sample of requests"
    ax.plot(released[dots] / unit_s, ttft[dots], ".", color="#888888", markersize=3, markeredgewidth=0, alpha=0.6, label=what)
    percentile_lines(ax, edges / unit_s, percentiles_in_bins(released, ttft, edges, PERCENTILES))
    ax.set_title("TTFT by time of release")
    _finish(ax, m, "TTFT", len(known) > 0, unit_s, unit)


def _itl_over_time(m: Measurement, ax: Axes) -> None:
    edges, (unit_s, unit) = bin_edges(m.records), time_unit(m.records.end_s)
    percentile_lines(ax, edges / unit_s, itl_percentiles_in_bins(m.gaps, edges, PERCENTILES))
    ax.set_title("ITL by time of the token")
    _finish(ax, m, "ITL", len(m.gaps.single_s) > 0, unit_s, unit)


def _finish(ax: Axes, m: Measurement, label: str, has_data: bool, unit_s: float, unit: str) -> None:
    if has_data:
        log_seconds(ax.yaxis)
        legend_above(ax)
    else:
        nothing(ax, "no tokens")
    ax.set_ylabel(label)
    ax.set_xlabel(f"simulated time, {unit}")
    _shade_cuts(ax, m, unit_s)


def percentile_lines(ax: Axes, edges: F64, rows: F64) -> None:
    """Lines of p50, p95 and p99 (rows) in the bins of these edges."""
    middle = (edges[1:] + edges[:-1]) / 2
    for row, fraction, colour in zip(rows, PERCENTILES, (COLOURS[0], COLOURS[2], COLOURS[1]), strict=True):
        seen = ~np.isnan(row)
        ax.plot(middle[seen], row[seen], color=colour, label=f"p{100 * fraction:.0f}")


def _shade_cuts(ax: Axes, m: Measurement, unit_s: float) -> None:
    """Grey where the run is not measured."""
    for low, high in ((0.0, m.window.start_s), (m.window.end_s, m.records.end_s)):
        if high > low:
            ax.axvspan(low / unit_s, high / unit_s, color="#eeeeee", zorder=0)
