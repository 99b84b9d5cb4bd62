"""What a reader must know before believing the load that a search found: requests that the predicate does not see, too short a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from simserve.report.metrics import ALL_CLASSES
from simserve.study.quantities import LATENCIES, Quantity

_FEW = 10
"""Requests beyond a percentile below which it is a matter of single requests."""

_SHORT = 10.0
"""Releases must last this many times the median request for a run to tell of a steady state."""

_COUNTS_LOSSES = ("completed", "attainment", "goodput", "rejected", "failed", "cancelled", "unfinished")
"""Figures that a lost request makes worse (it meets no SLO), so a predicate with one of them has seen it."""

_OF_A_TOKEN = ("usd.per_million", "energy.per", "energy.kwh", "energy.gco2")
"""What devices take in an hour, whatever they serve, over the tokens that they serve."""

LOSSES = ("requests", "completed_fraction", "rejected", "failed", "failed_in_trace", "cancelled", "unfinished")
"""Columns that `losses` reads."""


class Run(NamedTuple):
    """One run of a search: what chance it had (a seed), whether it held, its figures by column."""

    seed: int
    holds: bool
    values: Mapping[str, float | None]


def losses(runs: Sequence[Run], tested: Sequence[Quantity]) -> list[str]:
    """Notes on requests that were not served, apart by why: no load completes what failed in the trace, or what is rejected at every load.

    tested  the figures of the predicate. What it advises to add was seen to hold in at least one run of every seed.
    """
    known = [run for run in runs if run.values.get("completed_fraction") is not None]
    if not known:
        return []
    total = _most("requests", known)
    source = _most("failed_in_trace", known)
    can_hold = min(max(_value(run, "completed_fraction") for run in known if run.seed == seed) for seed in {run.seed for run in known})
    strictest = f"completed >= {math.floor(1e4 * can_hold + 1e-9) / 1e4:g}"
    notes = []
    if source:
        notes.append(f"{source:,.0f} of {total:,.0f} requests failed in the trace itself: no load and no policy completes them")
    holding = [run for run in known if run.holds]
    seen = any(quantity.name in _COUNTS_LOSSES and quantity.slo_class == ALL_CLASSES for quantity in tested)
    if not holding:
        if can_hold < 1 and any(quantity.name == "completed" for quantity in tested):
            notes.append(f"no run of a seed completed more: '{strictest}' is the strictest that could hold")
        return notes
    if seen:
        return notes
    parts = []
    lost = {"rejected": "rejected", "failed": "failed", "cancelled": "cancelled", "unfinished": "unfinished when the run was cut (until_s)"}
    for column, what in lost.items():
        of_trace = source if column == "failed" else 0.0
        most, least = _most(column, holding) - of_trace, min(_value(run, column) for run in known) - of_trace
        if most > 0:
            parts.append(f"{most:,.0f} {what}" + (" (as many at every load)" if least == most else ""))
    if parts:
        text = f"of {total:,.0f} requests up to {' and '.join(parts)} in runs that hold, which the predicate does not test"
        worst = min(_value(run, "completed_fraction") for run in holding)
        notes.append(f"{text}: add '{strictest}' to it" if worst < can_hold else text)
    return notes


def rare(values: Mapping[str, float | None], tested: Sequence[Quantity]) -> list[str]:
    """Notes on percentiles that rest on a handful of the requests of a run."""
    notes = []
    for quantity in tested:
        if quantity.stat[:1] != "p" or LATENCIES[quantity.name].over != "request":
            continue
        of_class = values.get(quantity._replace(name="measured", stat="").column)
        requests = of_class if of_class is not None else values.get("measured_requests")
        fraction = 1 - float(quantity.stat[1:].replace("_", ".")) / 100
        if requests is not None and requests * fraction < _FEW:
            notes.append(f"{quantity.text} rests on about {requests * fraction:.0f} of {requests:,.0f} requests: use more requests")
    return notes


def unsteady(values: Mapping[str, float | None], where: str = "at the heaviest load that holds ") -> list[str]:
    """A note when the requests of a run are released within a few times the duration of one. `where`: which run of the search it is."""
    period_s, request_s = values.get("arrival_period_s"), values.get("e2e_p50_s")
    if period_s is None or request_s is None or period_s >= _SHORT * request_s:
        return []
    return [
        f"{where}the requests are released within {period_s:.3g} s and take {request_s:.3g} s each (median): "
        "the run may end before it is steady, and a longer one may hold less; use more requests"
    ]


def improves_with_load(quantity: Quantity) -> bool:
    """Whether a heavier load never makes a figure worse: what is paid for or consumed by the hour, over the tokens of an hour."""
    return quantity.name.startswith(_OF_A_TOKEN)


def better_with_load(tested: Sequence[Quantity], alone: bool = False) -> list[str]:
    """A note on figures that a low load breaks: a search for the highest load takes what fails at one to fail at all above it.

    alone  money and energy of a token stand as limits of their own, so that the search goes by the rest and needs no note
    """
    found = [one.text for one in tested if one.name == "goodput" or (improves_with_load(one) and not alone)]
    if not found:
        return []
    return [
        f"{', '.join(dict.fromkeys(found))} improves as the load grows, and the search takes a predicate that fails at a load to fail "
        "above it: start where it holds (--set the rate), or test latencies alone and read this figure at the answer (limits on money or "
        "energy of a token that are joined to others by 'and' are searched the right way)"
    ]


def unmeasured(values: Mapping[str, float | None], load: str) -> list[str]:
    """A note on a failing run none of whose requests were measured, though not all were refused: it fails for want of figures."""
    requests = values.get("requests")
    lost = sum(_value_of(values, column) for column in ("rejected", "failed", "cancelled"))
    if requests is None or values.get("measured_requests") != 0 or lost >= requests:
        return []
    return [
        f"at {load} no completed request was released in the measured window, so that nothing can be tested and the run fails: see "
        "metrics.warmup_s, metrics.cooldown_s and until_s, or use more requests"
    ]


def served(values: Mapping[str, float | None]) -> float | None:
    """Requests that can be in the system at once: all but those that were rejected, or failed at their source."""
    requests = values.get("requests")
    return None if requests is None else requests - (values.get("rejected") or 0.0) - (values.get("failed_in_trace") or 0.0)


def at_an_end(values: Mapping[str, float | None], holds: bool) -> bool:
    """A failing run in which no two requests met, or a holding one in which all of them did: no other load says more."""
    together, requests = values.get("in_system_max"), served(values)
    if together is None or requests is None:
        return False
    return together >= requests if holds else together <= 1


def _value(run: Run, column: str) -> float:
    return _value_of(run.values, column)


def _value_of(values: Mapping[str, float | None], column: str) -> float:
    return values.get(column) or 0.0


def _most(column: str, runs: Sequence[Run]) -> float:
    return max(_value(run, column) for run in runs)
