"""Scaling over time: instances and nodes against the load, with the requests that missed the SLO marked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.engine.records import F64
from simserve.report.metrics import Measurement
from simserve.report.plots.panels import Panels
from simserve.report.plots.style import COLOURS, legend_above, nothing, time_unit
from simserve.report.scaling.log import DECISION, Row, rows
from simserve.report.series import bin_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MISSED = COLOURS[1]


def scaling_panels(m: Measurement) -> Panels:
    """Instances by state with what controllers wanted, nodes by what stands on them, and the load with the requests that missed the SLO."""
    log = m.records.scaling
    draw = {"instances": partial(_instances, m), "nodes": partial(_nodes, m), "load": partial(_load, m)}
    usual = ("instances", *(("nodes",) if log is not None and log.pools else ()), "load")
    return Panels(draw, usual, 1, (9.2, 2.5 * len(usual)), True)


def _instances(m: Measurement, ax: Axes) -> None:
    unit_s, unit = time_unit(m.records.end_s)
    log = m.records.scaling
    found = rows(m.records, log.controllers if log is not None else ())
    if not found:
        nothing(ax, "nothing scales")
        return
    times = np.array([row.time_s for row in found] + [m.records.end_s]) / unit_s
    base = np.zeros(len(times))
    for name, label, colour in (
        ("ready", "ready", COLOURS[0]),
        ("draining", "draining", COLOURS[4]),
        ("starting", "starting", COLOURS[5]),
        ("waiting", "waiting for a node", "#c9d3dc"),
    ):
        counts = np.array([getattr(row, name) for row in found])
        if counts.any():
            top = base + np.append(counts, counts[-1])
            ax.fill_between(times, base, top, step="post", color=colour, linewidth=0, label=label)
            base = top
    wanted = _wanted(found)
    if len(wanted):
        ends = np.vstack([wanted, [m.records.end_s, wanted[-1, 1]]])
        ax.plot(ends[:, 0] / unit_s, ends[:, 1], color="#000000", drawstyle="steps-post", linewidth=1.0)
    ax.set_title("Instances (line: desired)" if len(wanted) else "Instances")
    _finish(ax, "instances", unit)


def _wanted(found: list[Row]) -> F64:
    """(seconds, instances desired, over all roles) after each decision."""
    latest: dict[tuple[str, str], int] = {}
    wanted = []
    for row in found:
        if row.event == DECISION and row.desired is not None:
            latest[row.controller, row.role] = row.desired
            wanted.append((row.time_s, sum(latest.values())))
    return np.array(wanted, dtype=np.float64).reshape(-1, 2)


def _nodes(m: Measurement, ax: Axes) -> None:
    log, unit = m.records.scaling, time_unit(m.records.end_s)
    if log is None or not log.pools:
        nothing(ax, "no node pools")
        return
    devices = [log.pools[node.pool].node_devices for node in log.nodes]
    end_s = m.records.end_s
    paid = [(node.ordered_s, node.removed_s, size) for node, size in zip(log.nodes, devices, strict=True)]
    there = [(end_s if node.ready_s is None else node.ready_s, node.removed_s, size) for node, size in zip(log.nodes, devices, strict=True)]
    used = [(stay.from_s, stay.to_s, stay.devices) for stay in log.stays]
    for intervals, label, colour in (
        (paid, "on order", COLOURS[5]),
        (there, "without an instance", "#c9d3dc"),
        (used, "with an instance", COLOURS[2]),
    ):
        times, level = _level(intervals, end_s)
        ax.fill_between(times / unit[0], 0, level, step="post", color=colour, linewidth=0, label=label)
    ax.set_title("Devices of nodes, paid for")
    _finish(ax, "devices", unit[1])


def _level(intervals: list[tuple[float, float | None, int]], end_s: float) -> tuple[F64, F64]:
    """(times, level) of so much from a time to another, None = the end."""
    changes: list[tuple[float, int]] = [(0.0, 0)]
    for from_s, to_s, size in intervals:
        changes.append((min(from_s, end_s), size))
        if to_s is not None and to_s < end_s:
            changes.append((to_s, -size))
    ordered = [*sorted(changes), (end_s, 0)]
    return np.array([at_s for at_s, _ in ordered]), np.cumsum([size for _, size in ordered]).astype(np.float64)


def _load(m: Measurement, ax: Axes) -> None:
    edges, (unit_s, unit) = bin_edges(m.records), time_unit(m.records.end_s)
    middle, width = (edges[1:] + edges[:-1]) / 2 / unit_s, np.diff(edges)
    released = m.records.requests.released_s
    come: Any = np.histogram(released[~np.isnan(released)], edges)[0] / width
    ax.plot(middle, come, color=COLOURS[0], drawstyle="steps-mid", label="requests released")
    if m.slo is not None:
        missed_at = released[m.slo.judged & ~m.slo.met]
        missed: Any = np.histogram(missed_at[~np.isnan(missed_at)], edges)[0] / width
        ax.fill_between(middle, 0, missed, step="mid", color=_MISSED, linewidth=0, label="of them, missed the SLO")
    ax.set_title("Load")
    _finish(ax, "requests/s", unit)


def _finish(ax: Axes, label: str, unit: str) -> None:
    ax.set_ylim(bottom=0)
    ax.margins(x=0)
    ax.set_ylabel(label)
    ax.set_xlabel(f"simulated time, {unit}")
    legend_above(ax)
