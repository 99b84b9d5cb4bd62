"""Where a run's error comes from: parts of the prediction are replaced by measured ones, one after the other.

Four predictions of the same run, each with one more part:
  kernels     the devices alone: a free host, nothing outside the engine
  + host      and the host's work in every step
  + path      and the request path: this is the simulator's prediction
  steps       as before, with every step stretched by one factor so that the mean time per token is the measured one
What is left with measured step times is scheduling and queueing: which requests wait, and how long. The step part is the difference
the stretching makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from simserve.config.engine_profile import load_engine
from simserve.engine import simulate
from simserve.errors import ConfigError
from simserve.uncertainty.stretched import StretchedCost
from simserve.validation.case import Case
from simserve.validation.disaggregated import as_clients_see, build_instances, routed
from simserve.validation.evaluate import Outcome
from simserve.validation.machine import Overheads, overheads_of, without_overheads
from simserve.validation.metrics import summarise
from simserve.validation.predict import first_requests_s, inside_the_engine, predict
from simserve.validation.workloads import build_workload

_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """Signed errors (percent of the measured value) of one metric of one run.

    kernels, with_host, predicted   errors of the first three predictions above
    steps      part of the error that vanishes when step times are the measured ones (kernels and host together)
    queueing   part that stays: scheduling, queueing, the client
    stretch    factor on step times that makes the mean time per token the measured one
    """

    metric: str
    measured: float
    kernels_percent: float
    with_host_percent: float
    predicted_percent: float
    steps_percent: float
    queueing_percent: float
    stretch: float


def error_budget(case: Case) -> list[ErrorBudget]:
    """The budget of every metric of a case.

    Raises ConfigError when its mean time per token was not measured: then nothing can be substituted. SimserveError when the case cannot
    be simulated.
    """
    target = case.measured.get("tpot_mean")
    if not target:
        raise ConfigError(f"{case.label}: an error budget needs the measured mean time per output token")
    full = overheads_of(load_engine(case.profile))
    kernels = predict(case, without_overheads(full))
    hosted = predict(case, Overheads(full.host))
    predicted = predict(case, full)
    stretch = target / predicted["tpot_mean"]
    substituted = predicted
    for _ in range(_ROUNDS):  # waiting grows with step times, so the factor is not simply the ratio
        substituted = _stretched(case, full, stretch)
        stretch *= target / substituted["tpot_mean"]
    budgets = []
    for metric, measured in case.measured.items():
        if metric in predicted:
            whole, rest = _percent(predicted[metric], measured), _percent(substituted[metric], measured)
            budgets.append(
                ErrorBudget(
                    metric,
                    measured,
                    _percent(kernels[metric], measured),
                    _percent(hosted[metric], measured),
                    whole,
                    whole - rest,
                    rest,
                    stretch,
                )
            )
    return budgets


def _percent(predicted: float, measured: float) -> float:
    return 100.0 * (predicted / measured - 1.0)


def _stretched(case: Case, overheads: Overheads, factor: float) -> dict[str, float]:
    overheads = inside_the_engine(case, overheads)
    specs = [replace(spec, cost=StretchedCost(spec.cost, factor)) for spec in build_instances(case, overheads)]
    workload = build_workload(case)
    records = simulate(workload, specs, routed())
    if case.pools is not None:
        records = as_clients_see(records, specs)
    return summarise(records, first_requests_s(workload, overheads))


def budgets_of_worst(outcomes: Sequence[Outcome], count: int = 10) -> list[tuple[Case, list[ErrorBudget]]]:
    """Budgets of the `count` predicted runs that are furthest off in any metric, among those with a measured time per token."""
    able = [o for o in outcomes if o.predicted and o.case.measured.get("tpot_mean")]
    worst = sorted(able, key=lambda o: -max(abs(e) for e in o.errors_percent().values()))[:count]
    return [(o.case, error_budget(o.case)) for o in worst]
