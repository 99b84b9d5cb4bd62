"""The best points of a sweep: among those that meet the SLO, where one is stated and any does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simserve.report.rows import with_unit
from simserve.study.cells import figure, heading

if TYPE_CHECKING:
    import pandas as pd

MEETS = 0.99
"""Attainment from which a point meets its SLO: what `simserve capacity` looks for when nothing else is said."""

_OBJECTIVES = (
    ("ttft_p95_s", "lowest"),
    ("ttft_p99_s", "lowest"),
    ("tpot_p95_s", "lowest"),
    ("tpot_p99_s", "lowest"),
    ("e2e_p95_s", "lowest"),
    ("e2e_p99_s", "lowest"),
    ("attainment", "highest"),
    ("goodput_per_s", "highest"),
    ("output_tokens_per_s", "highest"),
    ("usd_per_million_output_tokens", "lowest"),
    ("joules_per_output_token", "lowest"),
)


class Best(NamedTuple):
    """The point at which a figure is best: its value there, the worst value of all points, the values of the keys, how many points share
    the best value, and what speaks against the point."""

    name: str
    best: str
    worst: str
    at: list[str]
    ties: int
    against: str


@dataclass(frozen=True, slots=True)
class BestPoints:
    """`among` says of which points they are the best."""

    among: str
    rows: list[Best]


def best_points(points: pd.DataFrame, keys: tuple[str, ...], names: dict[str, dict[Any, str]]) -> BestPoints:
    """One row for each figure that is not the same everywhere. Figures are means over the seeds of a point."""
    among, eligible = _eligible(points)
    rows = []
    for column, which in _OBJECTIVES:
        if column not in points.columns:
            continue
        known = points[points[column].notna()]
        values = known[column].to_numpy(dtype=np.float64)
        if len(values) < 2 or values.min() == values.max():
            continue
        pool = known[known.index.isin(eligible.index)]
        if not len(pool):
            continue
        sign = 1.0 if which == "lowest" else -1.0
        best = pool.iloc[int((sign * pool[column].to_numpy(dtype=np.float64)).argmin())]
        worst = values.max() if which == "lowest" else values.min()
        ties = int((pool[column] == best[column]).sum()) - 1
        at = [_shown(best[key], names[key]) for key in keys]
        rows.append(Best(f"{which} {heading(column)}", figure(column, best[column]), figure(column, worst), at, ties, _against(best)))
    return BestPoints(among, rows)


def _eligible(points: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """(of which points the best are named, those points)."""
    stated = points["attainment"].notna() if "attainment" in points.columns else None
    if stated is None or not stated.any():
        return "The experiment states no SLO, so nothing says whether the best is good enough.", points
    meeting = points[points["attainment"] >= MEETS]
    fraction = f"{100 * MEETS:.0f} % of the requests"
    if not len(meeting):
        most = with_unit(float(points["attainment"].max()), "%")
        return (
            f"No point meets its SLO for {fraction}: the highest attainment is {most}. These are the best of points that miss it.",
            points,
        )
    return f"Of the {len(meeting):,} of {len(points):,} points that meet their SLO for {fraction}.", meeting


def _against(point: pd.Series[Any]) -> str:
    """What makes a point's figures less than they look."""
    out = []
    if point.get("attainment", 1.0) < MEETS:
        out.append(f"misses its SLO: {with_unit(float(point['attainment']), '%')} attained")
    if point.get("completed_fraction", 1.0) < 1:
        out.append(f"{with_unit(float(point['completed_fraction']), '%')} of the requests completed, the latencies are theirs")
    if point.get("saturated", 0.0) > 0:
        out.append("saturated: the queue grew through the run")
    return "; ".join(out)


def _shown(value: Any, names: dict[Any, str]) -> str:
    return "–" if value is None or value != value else names[value]
