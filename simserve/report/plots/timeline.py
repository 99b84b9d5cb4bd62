"""A Gantt chart of the first requests of a run: when each waited, was prefilled and decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.report.metrics import Measurement
from simserve.report.plots.style import COLOURS, legend_above, nothing, one, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def timeline(m: Measurement, requests: int = 60, start_s: float = 0.0, ax: Axes | None = None) -> Axes:
    """The first `requests` requests released at or after `start_s`, one bar each. For whole runs use timeline.json in Perfetto."""
    with style():
        ax = one(ax, (9.2, 5.0))
        r, end_s = m.records.requests, m.records.end_s
        rows = np.flatnonzero(r.released_s >= start_s)
        rows = rows[np.argsort(r.released_s[rows], kind="stable")][:requests]
        if not len(rows):
            nothing(ax, "no requests")
            return ax
        until = np.where(np.isnan(r.finish_s), end_s, r.finish_s)[rows]
        scheduled = np.where(np.isnan(r.scheduled_s[rows]), until, r.scheduled_s[rows])
        first = np.where(np.isnan(r.first_token_s[rows]), until, r.first_token_s[rows])
        phases = (
            ("waiting", r.released_s[rows], scheduled, "#bbbbbb"),
            ("prefill", scheduled, first, COLOURS[1]),
            ("decode", first, until, COLOURS[0]),
        )
        for label, begin, stop, colour in phases:
            ax.barh(np.arange(len(rows)), stop - begin, left=begin, color=colour, height=0.8, label=label)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.grid(axis="y", visible=False)
        ax.set_title(f"The first {len(rows)} requests" if start_s == 0 else f"{len(rows)} requests from {start_s:g} s on")
        ax.set_xlabel("simulated time, s")
        ax.set_ylabel("request, in order of release")
        legend_above(ax)
        return ax
