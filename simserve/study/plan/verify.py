"""Verification: finalists are run again on seeds that played no part in choosing them.

The plan that looks best in a search was lucky on the search's seed more often than not (the winner's curse), so what is reported of it
comes from fresh replicates alone. Each limit is judged by the mean over them; where it lies inside the figure's interval (Student's t
of the replicates, and the model's own error where a run states one, added in quadrature), the plan is doubtful, and the answer says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from simserve.config.experiment import Experiment
from simserve.study.cache import Row
from simserve.study.limits import Limit
from simserve.study.plan.belief import Believed
from simserve.study.plan.figures import Ends, Verification
from simserve.study.plan.runs import Found
from simserve.study.predicate import Predicate
from simserve.study.quantities import LATENCIES, Quantity
from simserve.study.statistics import mean_interval

CONFIDENCE = 0.8
"""Of the intervals of chance: that of the model's own error, so that the two add up."""

_TAILS = (99, 95, 90)


def verified(
    found: Sequence[Found], seeds: Sequence[int], predicate: Predicate, limits: Sequence[Limit], experiment: Experiment, belief: Believed
) -> tuple[Verification, Row]:
    """What the runs on fresh seeds show, and the means of their figures."""
    errors = [run.error for run in found if run.error is not None]
    if errors:
        return Verification(tuple(seeds), {}, (errors[0],), (), belief.label, belief.reason), {}
    columns = found[0].values
    values: Row = {column: _mean([run.values.get(column) for run in found]) for column in columns}
    shown = [(limit.quantity, limit) for limit in limits] + [(one.quantity, one) for one in companions(limits, experiment)]
    ends = {
        quantity.column: _ends([float(run.values[quantity.column] or 0.0) for run in found], belief.relative.get(quantity.text))
        for quantity, _ in shown
        if len(found) > 1 and values.get(quantity.column) is not None
    }
    failures = predicate.failures(values)
    if sum(bool(run.values.get("saturated")) for run in found) > len(found) / 2:
        failures.append("the queue grew through most runs")
    doubtful = [_doubt(limit, ends[quantity.column]) for quantity, limit in shown if quantity.column in ends]
    return Verification(
        tuple(seeds), ends, tuple(failures), tuple(dict.fromkeys(text for text in doubtful if text)), belief.label, belief.reason
    ), values  # fmt: skip


def hopeless(found: Sequence[Found], limits: Sequence[Limit], replicates: int) -> bool:
    """Whether the mean over all replicates breaks a limit whatever the rest of them show: latencies are no less than 0, fractions no more
    than 1."""
    for limit in limits:
        values = [run.values.get(limit.quantity.column) for run in found]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            continue
        if limit.upper and limit.quantity.more_is_worse and limit.broken(sum(known) / replicates):
            return True
        best = sum(known) + (replicates - len(known))
        if limit.quantity.name == "attainment" and not limit.upper and limit.broken(best / replicates):
            return True
    return False


def settled(found: Sequence[Found], limits: Sequence[Limit], experiment: Experiment) -> bool:
    """Whether chance leaves no doubt: no limit, nor a latency behind attainment, lies inside the interval of its figure."""
    if len(found) < 2:
        return False
    for limit in (*limits, *companions(limits, experiment)):
        values = [run.values.get(limit.quantity.column) for run in found]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            _, low, high = mean_interval(known, CONFIDENCE)
            if low <= limit.bound <= high:
                return False
    return True


def companions(limits: Sequence[Limit], experiment: Experiment) -> list[Limit]:
    """What a limit on attainment comes to in latencies: with 99 % within `slo.ttft_s`, the p99 of TTFT. Attainment has no error of its own
    that is known, latencies have. Only of an SLO that is the same for all requests."""
    slo = experiment.spec.slo
    found = []
    for limit in limits:
        if limit.quantity.name != "attainment" or limit.upper or slo.classes:
            continue
        tail = next((tail for tail in _TAILS if tail <= 100 * limit.bound + 1e-9), None)
        for name, latency in LATENCIES.items():
            bound = getattr(slo, latency.name, None)
            if tail is not None and bound is not None and latency.over == "request":
                found.append(Limit(Quantity(name, f"p{tail}"), True, float(bound)))
    return found


def _ends(values: Sequence[float], relative: tuple[float, float] | None) -> Ends:
    mean, low, high = mean_interval(values, CONFIDENCE)
    if relative is None:
        return Ends(mean, low, high, None)
    below, above = mean * (1 - relative[0]), mean * (relative[1] - 1)
    return Ends(mean, low, high, (mean - math.hypot(mean - low, below), mean + math.hypot(high - mean, above)))


def _doubt(limit: Limit, ends: Ends) -> str:
    """The limit in words where it is met and lies inside the error of its figure; "" elsewhere."""
    low, high = ends.widest
    if limit.broken(ends.mean) or not low <= limit.bound <= high:
        return ""
    return f"{limit.text} (found {ends.mean:.4g}, {low:.4g} to {high:.4g})"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
