"""Plots of what users feel: distributions of latency, and latency over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.engine.records import F64
from simserve.report.columns import Mask
from simserve.report.metrics import ALL_CLASSES, Measurement, class_masks
from simserve.report.plot_style import COLOURS, LIMIT_COLOUR, duration, grid, legend_above, log_seconds, nothing, style, time_unit
from simserve.report.series import bin_edges, cdf_points, itl_percentiles_in_bins, percentiles_in_bins
from simserve.report.slo import limits_of_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = (
    ("ttft_s", "Time to first token (TTFT), per request", ("ttft_s",)),
    ("itl_s", "Inter-token latency (ITL), all tokens", ("itl_s", "itl_max_s", "itl_p99_s", "itl_p95_s")),
    ("tpot_s", "Time per output token (TPOT), per request", ("tpot_s",)),
    ("e2e_s", "End to end (E2E), per request", ("e2e_s",)),
)
_MAX_CLASSES = 6
_MAX_DOTS = 4000


def latency_cdf(m: Measurement) -> list[Axes]:
    """Cumulative distributions of TTFT, ITL, TPOT and E2E by SLO class, with the SLO as dashed lines. Four axes."""
    with style():
        _figure, axes = grid(2, 2, (9.2, 6.0))
        masks = class_masks(m.records)
        names = [ALL_CLASSES] if len(masks) == 1 else [name for name in masks if name != ALL_CLASSES][:_MAX_CLASSES]
        for ax, (metric, title, limit_keys) in zip(axes.ravel(), _PANELS, strict=True):
            drawn = False
            for number, name in enumerate(names):
                drawn |= _cdf_line(ax, m, metric, name, masks[name] & m.in_window, number)
            if drawn:
                _limits(ax, m, limit_keys)
                log_seconds(ax.xaxis)
                ax.set_ylim(0, 101)
                ax.legend(loc="lower right")
            else:
                nothing(ax, "no request has this quantity")
            ax.set_title(title)
            ax.set_ylabel("tokens, %" if metric == "itl_s" else "requests, %")
        return list(axes.ravel())


def _cdf_line(ax: Axes, m: Measurement, metric: str, name: str, rows: Mask, number: int) -> bool:
    value, share = m.gaps.cdf(rows) if metric == "itl_s" else cdf_points(m.requests.column(metric)[rows])
    positive = value > 0  # a logarithmic axis has no 0
    if not bool(positive.any()):
        return False
    stats = m.latency[name][metric]
    label = f"p50 {duration(stats.p50)}, p99 {duration(stats.p99)}"
    # Dashed lines above solid ones: classes that behave alike lie on top of each other.
    ax.step(
        value[positive],
        100 * share[positive],
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


def latency_over_time(m: Measurement) -> list[Axes]:
    """TTFT by release time (dots, median, p99) and ITL by token time (median, p99). Two axes that share their time axis."""
    with style():
        edges = bin_edges(m.records)
        unit_s, unit = time_unit(m.records.end_s)
        middle = (edges[1:] + edges[:-1]) / 2 / unit_s
        _figure, axes = grid(2, 1, (9.2, 5.6), sharex=True)
        top, bottom = axes[0, 0], axes[1, 0]
        released, ttft = m.records.requests.released_s, m.requests.ttft_s
        known = np.flatnonzero(~np.isnan(ttft))
        dots = known[:: 1 + len(known) // _MAX_DOTS]
        what = "requests" if len(dots) == len(known) else "a sample of requests"
        top.plot(released[dots] / unit_s, ttft[dots], ".", color="#888888", markersize=3, markeredgewidth=0, alpha=0.6, label=what)
        _percentile_lines(top, middle, percentiles_in_bins(released, ttft, edges, (0.5, 0.99)))
        top.set_title("TTFT by time of release")
        _percentile_lines(bottom, middle, itl_percentiles_in_bins(m.gaps, edges, (0.5, 0.99)))
        bottom.set_title("ITL by time of the token")
        bottom.set_xlabel(f"simulated time, {unit}")
        for ax, has_data in ((top, len(known) > 0), (bottom, len(m.gaps.single_s) > 0)):
            if has_data:
                log_seconds(ax.yaxis)
                legend_above(ax)
            else:
                nothing(ax, "no tokens")
            _shade_cuts(ax, m, unit_s)
        return [top, bottom]


def _percentile_lines(ax: Axes, middle: F64, rows: F64) -> None:
    for row, name, colour in zip(rows, ("p50", "p99"), COLOURS, strict=False):
        seen = ~np.isnan(row)
        ax.plot(middle[seen], row[seen], color=colour, label=name)


def _shade_cuts(ax: Axes, m: Measurement, unit_s: float) -> None:
    """Grey where the run is not measured."""
    for low, high in ((0.0, m.window.start_s), (m.window.end_s, m.records.end_s)):
        if high > low:
            ax.axvspan(low / unit_s, high / unit_s, color="#eeeeee", zorder=0)
