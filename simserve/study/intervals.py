"""Bands on the headlines: the run repeated with steps a little faster or slower, as far as measurements say they may be off.

Each draw multiplies the times of each operator entry by one factor, ln(factor) normal with the spread that the entry's check residuals
have (estimates: a stated wide one), and whole steps by another, with the spread that measured runs leave beside their kernels
(`simserve.uncertainty`). One factor holds for a whole run: such errors are those of a device, an engine, a model, in every step. Draws
come in pairs of z and -z, so that few of them are centred. The workload and the scheduler's choices beside time do not vary.
"""

from __future__ import annotations

import copy
import math
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from simserve.catalogue import METRICS, SHOWN_FIGURES
from simserve.contracts.wrapping import innermost, rewrapped
from simserve.progress.study import Meter, Progress, shown
from simserve.uncertainty.belief import LEVEL
from simserve.uncertainty.stretched import StretchedCost

if TYPE_CHECKING:
    from simserve.config.assemble import Assembly
    from simserve.config.experiment import Experiment
    from simserve.config.python_policies import PythonPolicies
    from simserve.report.result import Result

DRAWS = 20
LOW, HIGH = (1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0
STEPS = "steps beside their kernels"
"""Among the spreads: that of whole steps."""

_PARALLEL_FROM_S = 10.0
_PROCESSES = 2
_CHUNKS = 4  # for each process: progress, and an even end

STATS = ("mean", "p50", "p90", "p95", "p99")
THROUGHPUT = tuple(figure.path[-1] for figure in SHOWN_FIGURES if figure.banded and figure.path[0] == "throughput")
SLO = tuple(figure.path[-1] for figure in SHOWN_FIGURES if figure.banded and figure.path[0] == "slo")

Factors = Mapping[str, float]
Headlines = dict[str, Any]
"""The part of a summary that gets a band: nested, with a number or None at each leaf."""


@runtime_checkable
class Uncertain(Protocol):
    """A cost model that knows how far off its operators may be (`StepCost` is one)."""

    def spreads(self) -> dict[str, float]:
        """Operator -> standard deviation of ln(true / predicted)."""
        ...

    def scaled(self, factors: Factors) -> Any:
        """The same cost model with operators' times multiplied."""
        ...


def bands(
    experiment: Experiment,
    draws: int = DRAWS,
    progress: bool | Progress = False,
    spreads: Mapping[str, float] | None = None,
    given: PythonPolicies | None = None,
    steps: float = 0.0,
) -> Headlines:
    """What summary.json holds under `intervals`: [p10, p90] over the draws at the place of each headline; None where it is not defined.

    progress  True shows the draws on stderr; a function is called with each Step
    given     policy objects that stand in for those that the experiment names
    steps     standard deviation of ln(true / predicted) of a step beside its kernels (`Belief.steps` of the run)
    spreads   overrides the operators' own (by label). Deterministic by the experiment's seed, whatever the number of processes.
    """
    from simserve.config.assemble import assemble
    from simserve.config.python_policies import NONE
    from simserve.config.schema import check_draws

    check_draws(draws)
    parts = assemble(experiment, given or NONE)
    known = operator_spreads(parts) | ({STEPS: steps} if steps else {}) | dict(spreads or {})
    factors = draw(known, draws, experiment.spec.seed)
    with shown(progress) as show:
        found = list(_simulate(experiment, parts, factors, show))
    return {
        "draws": draws,
        "low_quantile": LOW,
        "high_quantile": HIGH,
        "of": "kernels as wrong as the hardware profile says they may be" + (", steps as measured runs leave them" if steps else ""),
        "spread_log": dict(sorted(known.items())),
        **_band(found),
    }


def steps_of(result: Result) -> float:
    """The `steps` of a run's own belief; 0 for one without."""
    return 0.0 if result.uncertainty is None else result.uncertainty.steps


def operator_spreads(parts: Assembly) -> dict[str, float]:
    """The spread of every operator that the instances' steps are made of; equal labels are one operator."""
    out: dict[str, float] = {}
    for spec in parts.instances:
        cost = innermost(spec.cost, "spreads")
        if isinstance(cost, Uncertain):
            for label, spread in cost.spreads().items():
                out[label] = max(spread, out.get(label, 0.0))
    return out


def draw(spreads: Mapping[str, float], draws: int, seed: int) -> list[dict[str, float]]:
    """`draws` times a factor for each operator. An operator's draws depend on the seed and its label alone."""
    out: list[dict[str, float]] = [{} for _ in range(draws)]
    for label, spread in spreads.items():
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(label.encode())])))
        half = generator.standard_normal(-(-draws // 2))
        for number in range(draws):
            z = float(half[number // 2]) * (1.0 if number % 2 == 0 else -1.0)
            out[number][label] = math.exp(spread * z)
    return out


def _simulate(experiment: Experiment, parts: Assembly, factors: Sequence[Factors], progress: Progress | None) -> Iterator[Headlines]:
    """The headlines of each draw, in order. The first pair is run here and tells whether a second process is worth its start."""
    meter = Meter("draws", len(factors), progress)
    start_s = time.monotonic()
    done = 0
    for headlines in _run(experiment, parts, factors[:2]):
        done += 1
        meter.add()
        yield headlines
    left = factors[done:]
    remaining_s = (time.monotonic() - start_s) / max(done, 1) * len(left)
    if remaining_s < _PARALLEL_FROM_S:
        for headlines in _run(experiment, parts, left):
            meter.add()
            yield headlines
        return
    from joblib import delayed

    from simserve.workers import uninterrupted_workers

    size = -(-len(left) // (_PROCESSES * _CHUNKS))
    chunks = [left[i : i + size] for i in range(0, len(left), size)]
    calls = (delayed(_assemble_and_run)(experiment, parts.given, chunk) for chunk in chunks)
    for found in uninterrupted_workers(calls, n_jobs=_PROCESSES, return_as="generator"):
        for headlines in found:
            meter.add()
            yield headlines


def _assemble_and_run(experiment: Experiment, given: PythonPolicies, factors: Sequence[Factors]) -> list[Headlines]:
    from simserve.config.assemble import assemble

    return list(_run(experiment, assemble(experiment, given), factors))


def _run(experiment: Experiment, parts: Assembly, factors: Iterable[Factors]) -> Iterator[Headlines]:
    from simserve.simulation import simulated_parts

    for of_draw in factors:
        # Instances of a group share one cost model. Schedulers and routers keep state: every draw starts with fresh ones.
        costs = {id(spec.cost): spec.cost for spec in parts.instances}
        scaled = {key: rewrapped(cost, partial(_scaled, factors=of_draw), "scaled") for key, cost in costs.items()}
        if STEPS in of_draw:
            scaled = {key: StretchedCost(cost, of_draw[STEPS]) for key, cost in scaled.items()}
        schedulers, cluster = copy.deepcopy(([s.scheduler for s in parts.instances], parts.cluster))
        instances = tuple(
            replace(spec, cost=scaled[id(spec.cost)], scheduler=scheduler)
            for spec, scheduler in zip(parts.instances, schedulers, strict=True)
        )
        drawn = replace(parts, instances=instances, cluster=cluster)
        yield headlines_of(simulated_parts(experiment, drawn).summary_dict())


def _scaled(cost: Any, factors: Factors) -> Any:
    return cost.scaled(factors) if isinstance(cost, Uncertain) else cost


def headlines_of(summary: Mapping[str, Any]) -> Headlines:
    """The figures of a summary that get a band."""
    return {
        "latency": {
            name: {metric.name: {stat: metrics[metric.name][stat] for stat in STATS} for metric in METRICS if metric.banded}
            for name, metrics in summary["latency"].items()
        },
        "throughput": {key: summary["throughput"][key] for key in THROUGHPUT},
        "slo": {name: {key: of_class[key] for key in SLO} for name, of_class in (summary["slo"] or {}).items()},
    }


def _band(found: Sequence[Any]) -> Any:
    """[low, high] at each leaf of equally shaped mappings."""
    first = found[0]
    if isinstance(first, Mapping):
        return {key: _band([one[key] for one in found]) for key in first}
    values = [one for one in found if one is not None]
    if len(values) < len(found):
        return None  # not defined in every draw
    return [float(q) for q in np.quantile(values, (LOW, HIGH), method="inverted_cdf")]
