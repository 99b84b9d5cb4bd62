"""How far to believe a run, as tables show it: one line, and each headline with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from simserve.catalogue import METRICS
from simserve.report.rows import FIGURES, milliseconds, value_at, with_unit

STATS = ("mean", "p50", "p99")
"""Statistics that tables show with intervals."""


_NARROW = 0.01
"""Intervals of less than a per cent are the value: rates that the load decides."""

ALL_STATS = ("mean", "p50", "p90", "p95", "p99")
"""Where there is space for all that have one."""


def belief_line(summary: dict[str, Any]) -> str:
    """`How far to believe it: fitted, ...`; empty for a run made without."""
    belief = summary.get("uncertainty")
    return f"How far to believe it: {belief['line']}" if belief else ""


def belief_rows(summary: dict[str, Any], stats: Sequence[str] = STATS) -> list[tuple[str, list[str]]]:
    """(metric, `41.2 (35.1 to 48.3) ms` for each statistic) over all requests; empty where nothing has an interval."""
    intervals = (summary.get("uncertainty") or {}).get("intervals") or {}
    rows = []
    for metric in METRICS:
        names = [f"{metric.quantity}.{stat}" for stat in stats]
        if metric.headline and any(name in intervals for name in names):
            values = summary["latency"]["all"][metric.name]
            cells = [with_interval(values[stat], intervals.get(name), milliseconds) for stat, name in zip(stats, names, strict=True)]
            rows.append((metric.label, cells))
    return rows


def figures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of the figures that tables show, with an interval where there is one; what is not defined is left out."""
    intervals = (summary.get("uncertainty") or {}).get("intervals") or {}
    values = ((figure, value_at(summary, figure.path)) for figure in FIGURES if not figure.scaled)
    return [
        (figure.name, with_interval(value, intervals.get(figure.quantity), partial(with_unit, unit=figure.unit)))
        for figure, value in values
        if value is not None
    ]


def with_interval(value: float | None, ends: Sequence[float] | None, show: Callable[[float | None], str]) -> str:
    """`41.2 (35.1 to 48.3) ms`: the unit once where all three have it."""
    if value is None or ends is None or ends[1] - ends[0] < _NARROW * value:
        return show(value)
    parts = [show(one).rpartition(" ") for one in (value, *ends)]
    units = {unit for before, _, unit in parts if before}
    if len(units) == 1 and all(before for before, _, _ in parts):
        middle, low, high = (before for before, _, _ in parts)
        return f"{middle} ({low} to {high}) {units.pop()}"
    middle, low, high = (show(one) for one in (value, *ends))
    return f"{middle} ({low} to {high})"
