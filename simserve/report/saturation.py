"""Did the system keep up with the load? Said plainly, because latencies of an overloaded run only measure how long it was."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from simserve.engine.records import RunRecords, Status
from simserve.report.utilisation import waiting_intervals
from simserve.report.window import Window

# A run is called saturated when the mean queue of each quarter of the arrival period exceeds that of the quarter before (of the first, in
# which instances fill up, the second need not) and the last one has grown by more than both of these: single bursts pass, a steady surplus
# of work does not.
_MIN_GROWTH_REQUESTS = 10
_MIN_GROWTH_FRACTION = 0.02


@dataclass(frozen=True, slots=True)
class Saturation:
    """`quarters` is the mean number of waiting requests in each quarter of the period in which requests were released."""

    saturated: bool
    quarters: tuple[float, ...]
    message: str


UNJUDGED = Saturation(False, (), "")


def saturation(records: RunRecords) -> Saturation:
    """Judge by the growth of the queue of requests that wait for their first step, and by what was left when the run ended."""
    released = records.requests.released_s
    released = released[~np.isnan(released)]
    unfinished = int((records.requests.status == Status.UNFINISHED).sum())
    if len(released) < 2 or released.max() <= released.min():
        return unjudged(unfinished)
    edges = np.linspace(float(released.min()), float(released.max()), 5)
    from_s, to_s = waiting_intervals(records)
    quarter_s = float(edges[1] - edges[0])
    quarters = tuple(float(Window(low, high).overlap_s(from_s, to_s).sum()) / quarter_s for low, high in itertools.pairwise(edges))
    return judged(quarters, len(released), unfinished)


def judged(quarters: tuple[float, ...], released: int, unfinished: int) -> Saturation:
    """By the mean number of waiting requests in each quarter, of so many that were released and so many that were left."""
    growth = quarters[-1] - quarters[0]
    growing = quarters[0] <= quarters[1] and all(later > earlier for earlier, later in itertools.pairwise(quarters[1:]))
    saturated = growing and growth > max(_MIN_GROWTH_REQUESTS, _MIN_GROWTH_FRACTION * released)
    if not saturated:
        return Saturation(False, quarters, _left(unfinished))
    message = (
        f"Saturated: the queue grew through the run. Requests that waited, on average: {quarters[0]:.0f} in its first quarter, "
        f"{quarters[-1]:.0f} in its last. More work arrives than is served; latencies would grow with a longer run."
    )
    return Saturation(True, quarters, f"{message} {_left(unfinished)}".strip())


def unjudged(unfinished: int) -> Saturation:
    """Of a run whose requests came all at once."""
    return Saturation(False, (), _left(unfinished))


def _left(unfinished: int) -> str:
    if not unfinished:
        return ""
    return f"{unfinished:,} {'requests were' if unfinished > 1 else 'request was'} unfinished when the run was cut by its time limit."
