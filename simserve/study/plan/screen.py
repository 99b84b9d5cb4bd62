"""Screening: plans in order of cost, those of one cost raced by successive halving, until the cheapest that meets the SLO is found.

Runs of one rung serve the same requests (common random numbers). A short run eliminates a plan only where its requests alone break the
limit of the whole: of N requests a p99 lets N/100 exceed, and when p90 of the first ninth is above the limit, N/90 do. What it does not
eliminate it ranks by the margin to the tightest limit; the better third goes on first, and the others follow if those fail: no plan is
lost to a short run.

Once a fresh seed has refuted a plan, runs of all requests are made on that seed, which the verification needs anyway. They eliminate what
they refute whatever the other fresh seeds show, and rank nothing, so that verified figures stay free of the choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from simserve.report.rows import STATS
from simserve.study.cache import Row
from simserve.study.limits import ALL_REJECTED, Limit, limits, serves_none, tightest
from simserve.study.plan.runs import Found, Runs, Wanted
from simserve.study.plan.space import Plan
from simserve.study.plan.verify import hopeless
from simserve.study.predicate import Predicate

RUNGS = (1 / 9, 1 / 3, 1.0)
"""Fractions of the requests: a third of the plans goes on to three times the requests (successive halving with eta = 3, Jamieson and
Talwalkar, arXiv 1502.07943), so every rung costs the same."""

_KEPT = 3
_PERCENTILES = sorted(float(stat[1:]) / 100 for stat in STATS if stat.startswith("p"))


def most_work(plans: int, verifying: int) -> float:
    """Runs of all requests that it takes at most to screen so many plans, with those that verify."""
    return plans * (1 + RUNGS[0]) + verifying


@dataclass
class Screened:
    """A plan in the race: `held` after a run of all requests; `why` it is out, "" while it is not; `refuted` by a fresh seed."""

    plan: Plan
    utilisation: float | None
    why: str = ""
    held: bool = False
    fraction: float = 0.0
    values: Row = field(default_factory=dict)
    margin: float = 0.0
    refuted: bool = False


class Screen:
    """Plans by cost. `cheapest` is asked again and again: each time the next plan, going up, that met the predicate in a run of all
    requests."""

    def __init__(self, plans: Sequence[Screened], predicate: Predicate, runs: Runs, seed: int, replicates: int) -> None:
        self.plans = list(plans)
        self._predicate = predicate
        self._limits = limits(predicate)
        self._runs = runs
        self._seed = seed
        self._replicates = replicates
        self.hardest: int | None = None
        """The fresh seed that refuted a plan last; None while none has."""
        self.below = math.inf
        """Plans that cost as much, or at least as much, are not run any more."""

    def holding(self) -> Iterator[Screened]:
        """The plans that met the predicate once, the cheapest first; of one cost the one with the largest margin."""
        ordered = sorted(self.plans, key=lambda one: one.plan.order)
        for order, level in groupby(ordered, key=lambda one: one.plan.order):
            if order < self.below:
                yield from self._race([one for one in level if not one.why])

    def near_misses(self, below: float) -> list[Screened]:
        """Plans that cost less than `below` and missed the predicate in their run of all requests by no more than chance may, the
        cheapest first: fresh seeds decide."""
        missed = [one for one in self.plans if one.fraction >= 1.0 and not (one.held or one.refuted) and one.plan.order < below]
        close = [one for one in missed if one.values and not one.values.get("saturated") and self._close(one.values)]
        return sorted(close, key=lambda one: one.plan.order)

    def _close(self, values: Row) -> bool:
        broken = [limit for limit in self._limits if (value := values.get(limit.quantity.column)) is not None and limit.broken(value)]
        return bool(broken) and all(by_chance(limit, values) for limit in broken)

    def _race(self, level: list[Screened]) -> Iterator[Screened]:
        for fraction in RUNGS[:-1]:
            if len(level) < 2 or fraction * self._runs.load.requests < 1:
                break
            self._run(level[: math.ceil(len(level) * _share(fraction))], fraction)
            level = [one for one in level if not one.why]
            level.sort(key=lambda one: (-one.fraction, -one.margin))
        for one in level:
            if one.plan.order >= self.below:
                return
            if self.hardest is None:
                self._run([one], 1.0)
            else:
                self._withstand(one, self.hardest)
            if one.held:
                yield one

    def _withstand(self, one: Screened, seed: int) -> None:
        """A run of all requests on a fresh seed: the plan is out where that seed alone decides the mean over all of them."""
        (run,) = self._runs.of([Wanted(one.plan, 1.0, seed)])
        one.fraction = 1.0
        one.values = run.values
        one.refuted = hopeless([run], self._limits, self._replicates)
        if run.error is not None:
            one.why = run.error
        elif one.refuted:
            failures = self._predicate.failures(run.values) or ["misses the SLO"]
            one.why = f"{'; '.join(failures)} on fresh seed {seed}, which decides it"
        one.held = not one.why

    def _run(self, level: Sequence[Screened], fraction: float) -> None:
        found = self._runs.of([Wanted(one.plan, fraction, self._seed) for one in level])
        for one, run in zip(level, found, strict=True):
            self._judge(one, run, fraction)

    def _judge(self, one: Screened, run: Found, fraction: float) -> None:
        one.fraction = fraction
        if run.error is not None:
            one.why = run.error
            return
        one.values = run.values
        closest = tightest(self._limits, run.values)
        one.margin = closest[1] if closest is not None else 0.0
        if fraction < 1.0:
            broken = breaks_whole(self._limits, run.values, fraction)
            one.why = broken and (self._rejected(one) or broken)
            return
        failures = self._predicate.failures(run.values)
        grew = bool(run.values.get("saturated"))
        one.held = not failures and not grew
        one.why = "" if one.held else self._rejected(one) or "; ".join([*failures, *(["the queue grew through the run"] if grew else [])])

    def _rejected(self, one: Screened) -> str:
        """That the run served no request at all, and why; "" where it did."""
        if not serves_none(one.values):
            return ""
        return f"{ALL_REJECTED}: {self._runs.rejections(Wanted(one.plan, one.fraction, self._seed))}"


def _share(fraction: float) -> float:
    """Of a level, how much runs at this rung."""
    return 1.0 if fraction == RUNGS[0] else 1.0 / _KEPT


def breaks_whole(found: Sequence[Limit], values: Mapping[str, float | None], fraction: float) -> str:
    """The limit that the whole run breaks, whatever its other requests do, by the figures of its first ones; "" when none is known to.

    fraction  of the requests, in this run
    """
    for limit in found:
        quantity = limit.quantity
        if quantity.name == "attainment" and not limit.upper:
            value = values.get(quantity.column)
            if value is not None and (1 - value) * fraction > 1 - limit.bound:
                return f"{limit.text} (found {value:.4g} in the first {100 * fraction:.0f} % of the requests, too many for the whole)"
        elif limit.upper and quantity.stat.startswith("p"):
            most = 1 - float(quantity.stat[1:].replace("_", ".")) / 100  # of all requests, that may exceed
            for percentile in _PERCENTILES:
                column = quantity._replace(stat=f"p{100 * percentile:.0f}").column
                value = values.get(column)
                if value is not None and limit.broken(value) and (1 - percentile) * fraction >= most:
                    part = f"the first {100 * fraction:.0f} % of the requests"
                    return f"{limit.text} ({quantity.name}.p{100 * percentile:.0f} of {part} is {value:.4g} already)"
    return ""


def by_chance(limit: Limit, values: Mapping[str, float | None]) -> bool:
    """Whether an attainment misses its limit by at most two standard deviations of a fraction of so many requests. They are not
    independent, so that chance may do more than this; of other figures a single run does not tell."""
    requests, value = values.get("measured_requests"), values.get(limit.quantity.column)
    if limit.quantity.name != "attainment" or limit.upper or not requests or value is None:
        return False
    return limit.bound - value <= 2 * math.sqrt(limit.bound * (1 - limit.bound) / requests)
