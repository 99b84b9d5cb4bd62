"""`simserve.plan`: the cheapest deployment that meets an SLO under an experiment's load.

All plans within the budget are bounded from the cost model (`bounds`), the rest simulated in order of cost (`screen`), the first that meets
the SLO verified on fresh seeds, and with it the plans of the next costs (`verify`).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from simserve.config.experiment import Experiment
from simserve.config.hardware_file import hardware_path
from simserve.config.plan_section import PlanSection
from simserve.config.prices import rates
from simserve.errors import ConfigError, SimserveError
from simserve.files import yaml_text
from simserve.model import load_model
from simserve.progress.study import Meter, Progress, shown
from simserve.report.files import write_whole
from simserve.study.backends import starting
from simserve.study.base import VARIANT, Base, base
from simserve.study.capacity.search import DEFAULT_PREDICATE
from simserve.study.folder import opened, other_versions_note
from simserve.study.limits import broken_at_best, limits, tightest
from simserve.study.money import refuse_unpriced
from simserve.study.plan.belief import Believed
from simserve.study.plan.bounds import Bounds, bounds
from simserve.study.plan.deployed import deployed
from simserve.study.plan.figures import Fate, Outcome, Verification
from simserve.study.plan.offered import Offered, fresh_loads, offered, said
from simserve.study.plan.result import PLAN, PlanResult
from simserve.study.plan.runs import Execution, Runs, Wanted
from simserve.study.plan.screen import Screen, Screened, most_work
from simserve.study.plan.space import Family, Plan, Space, space
from simserve.study.plan.verify import hopeless, settled, verified
from simserve.study.plan.words import about
from simserve.study.predicate import Predicate, parse

BEST = "best.yaml"

_MANY = 5_000
"""Plans from which on it is said beforehand how long their bounds take."""

_TRIED = 50
"""Plans by which that is judged."""


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """What to choose from, under which load, by which predicate."""

    base: Base
    experiment: Experiment
    section: PlanSection
    predicate: Predicate
    space: Space
    load: Offered
    fresh: tuple[Offered, ...]
    prices: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """On which finalists are verified: the search itself is on the experiment's own."""
        return _fresh_seeds(self.experiment, self.section)

    @property
    def preview(self) -> str:
        """How much there is to do, before it is done."""
        plans, makes = self.space.count(), self.space.count_families()
        most = math.ceil(most_work(plans, self.section.replicates * self.section.finalists))
        bounds_take = f", whose bounds take {about(_bounds_s(self))}" if plans > _MANY else ""
        return f"{plans:,} plans of {makes:,} makes of instances{bounds_take}: at most {most:,} runs of {self.load.requests:,} requests"


def plan(
    source: Experiment | str | Path | Mapping[str, Any],
    /,
    when: str | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    backend: str = "joblib",
    jobs: int | None = None,
    address: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool | Progress = False,
) -> PlanResult:
    """The cheapest deployment of an experiment's model that meets `when` under its load, of those that its `plan` section allows.

    when     a predicate over the figures of a run; default: that of the section, or 99 % of the requests meet the SLO
    changes  keys of the experiment by dotted path, such as {"plan.budget.devices": 16}
    backend, jobs, address  where the runs are computed, as in sweeps
    out      directory of the runs, the answer (plan.json) and the experiment of the plan (best.yaml); with `resume` runs that lie there
             are not computed again

    Raises ConfigError for a budget that allows no plan, more plans than the section's limit, devices without a price where they must be
    told apart; OutputError for `out`.
    """
    spec = specify(source, when, changes)
    with shown(progress) as show:
        return find(spec, Execution(backend, jobs, address, None if out is None else Path(out), resume), show)


def specify(
    source: Experiment | str | Path | Mapping[str, Any], when: str | None = None, changes: Mapping[str, Any] | None = None
) -> PlanSpec:
    """The search, checked. Raises ConfigError."""
    origin = base(source, changes)
    experiment = origin.load()
    if experiment.spec.workload is None:
        raise ConfigError(f"{experiment.name}: has probes and no workload, so there is no load to plan for")
    section = experiment.spec.plan or PlanSection()
    when = when or section.when
    if when is None:
        if not any(experiment.spec.slo.model_dump(exclude_none=True).values()):
            raise ConfigError("say what a plan must meet (--when 'ttft.p99 <= 2.0', or plan.when); the experiment states no SLO to go by")
        when = DEFAULT_PREDICATE
    hardware = section.hardware or (experiment.groups[0].hardware,)
    for name in hardware:
        hardware_path(name, experiment.base_dir)
    usd, prices = _prices(experiment, section, hardware)
    model_section = experiment.spec.model_section
    model = load_model(model_section.name, base_dir=experiment.base_dir, quantisation=model_section.quantisation)
    found = space(experiment, section, model, usd)
    notes = [*([model.taken] if model.taken else []), *_of_variants(origin)]
    if experiment.spec.until_s is not None:
        notes.append(f"runs are cut after {experiment.spec.until_s:g} s (until_s): requests that are left then miss the SLO of every plan")
    if usd and all(price is None for price in usd.values()):
        notes.append(f"{', '.join(usd)} has no price: plans are ranked by their devices (prices.usd_per_hour states one)")
    test = parse(when)
    refuse_unpriced(experiment, test)
    load = offered(experiment)
    fresh = fresh_loads(experiment, load, _fresh_seeds(experiment, section))
    spec = PlanSpec(origin, experiment, section, test, found, load, tuple(fresh), prices, tuple(notes))
    _refuse_too_many(spec)
    return spec


def _fresh_seeds(experiment: Experiment, section: PlanSection) -> list[int]:
    first = experiment.spec.seed + 1
    return list(range(first, first + section.replicates))


def _prices(experiment: Experiment, section: PlanSection, hardware: tuple[str, ...]) -> tuple[dict[str, float | None], dict[str, Any]]:
    """USD an hour of each profile's devices. Where plans of several must be told apart, or a budget is in money, each needs one."""
    needed = len(hardware) > 1 or section.budget.usd_per_hour is not None
    found = rates(experiment.spec.prices, hardware, experiment.base_dir, required=True if needed else None)
    return {name: found.of(name) for name in hardware}, found.about


def _of_variants(origin: Base) -> list[str]:
    if origin.variant is not None or not origin.variants:
        return []
    return [f"this is the experiment as it stands; it has the variants {', '.join(origin.variants)} (--set {VARIANT}=NAME)"]


def _refuse_too_many(spec: PlanSpec) -> None:
    """Raises ConfigError for more plans than the limit, saying how long their bounds alone would take."""
    count, limit = spec.space.count(), spec.section.limit
    if count <= limit:
        return
    raise ConfigError(
        f"plan: {count:,} plans of {spec.space.count_families():,} makes of instances are more than plan.limit ({limit:,}): bounding them "
        f"alone would take {about(_bounds_s(spec))}, simulating the rest far more. Narrow the lists, state `instances`, or raise "
        "plan.limit"
    )


def _bounds_s(spec: PlanSpec) -> float:
    """Seconds that the bounds of all plans take, by those of one make of instances and a few of its plans; the first of all, which has
    the model and the profile read, does not count."""
    families = spec.space.families()
    family = next(families)
    known, start_s = _bounds_of(spec, family), 0.0
    if (other := next(families, None)) is not None:
        start_s = time.monotonic()
        known = _bounds_of(spec, family := other)
        start_s = time.monotonic() - start_s
    some = list(islice(spec.space.any_counts(family), _TRIED))
    of_plans_s = time.monotonic()
    for counts in some:
        _bounded(spec, family.plan(counts, known.demand), known)
    of_plans_s = time.monotonic() - of_plans_s
    return start_s * spec.space.count_families() + of_plans_s / max(1, len(some)) * spec.space.count()


def find(spec: PlanSpec, execution: Execution | None = None, progress: Progress | None = None) -> PlanResult:
    """Runs the search. Raises ConfigError when no plan can be run at all, OutputError for the directory."""
    execution = execution or Execution()
    starting(0, execution.backend, execution.jobs)  # a backend that there is not is said before anything is bounded
    out = execution.out
    cache = None if out is None else opened(out, "plan search", PLAN, resume=execution.resume, force=execution.force)
    families = list(spec.space.families())
    meter = Meter("makes of instances bounded", len(families), progress)
    outcomes: dict[Plan, Outcome] = {}
    refused: list[tuple[Family, str]] = []
    entered: list[Screened] = []
    for family in families:
        known = _bounds_of(spec, family)
        if known.refused:
            refused.append((family, known.error))
        meter.add(failed=bool(known.error))
        for plan in (family.plan(counts, known.demand) for counts in spec.space.counts(family)):
            outcomes[plan] = _bounded(spec, plan, known)
            if outcomes[plan].fate == Fate.NOT_RUN:
                entered.append(Screened(plan, known.utilisation(plan.counts)))
    if not outcomes:
        raise ConfigError("plan.autoscalers: no plan within the budget has as many instances as `min_instances` says")
    _refuse_useless(refused, families)
    if all(one.fate == Fate.IMPOSSIBLE for one in outcomes.values()):
        first = next(iter(outcomes.values()))
        raise ConfigError(f"no plan can be run; the first: {first.name}: {first.why}")
    entered.sort(key=lambda one: (one.plan.order, one.utilisation or 0.0))
    wanted = spec.predicate.quantities
    runs = Runs(spec.base, spec.experiment, spec.load, wanted, execution, cache, progress)
    runs.most_work = most_work(len(entered), spec.section.replicates * spec.section.finalists)
    screen = Screen(entered, spec.predicate, runs, spec.experiment.spec.seed, spec.section.replicates)
    for one, verification, values in _finalists(spec, screen, runs):
        fate = Fate.REFUTED if verification.failures else Fate.VERIFIED
        outcomes[one.plan] = _with(outcomes[one.plan], fate, _why(spec, verification), values, 1.0, verification)
    for one in screen.plans:
        if outcomes[one.plan].verification is None:
            outcomes[one.plan] = _screened(outcomes[one.plan], one)
        if one.plan.priced_by_run and one.plan.usd_per_hour is not None and outcomes[one.plan].fraction >= 1.0:
            outcomes[one.plan] = replace(outcomes[one.plan], usd_per_hour=_cost(one.plan, outcomes[one.plan].values))
    notes = [*spec.notes, *([] if cache is None else other_versions_note(cache))]
    ordered = sorted(outcomes.values(), key=lambda one: one.order)
    result = PlanResult(
        spec.experiment.name, spec.predicate, tuple(ordered), runs.done, runs.requests, spec.load.requests, spec.prices, tuple(notes),
        load=said(spec.experiment, spec.load),
    )  # fmt: skip  # fmt: skip
    chosen = next((plan for plan, one in outcomes.items() if one is result.best), None)
    answer = None if chosen is None else spec.base.load(chosen.changes(spec.experiment))
    if answer is not None:
        result = deployed(result, answer, spec.section.node_devices)
    if out is not None:
        result.write(out)
        if answer is not None:
            text = yaml_text.dump(answer.resolved())
            write_whole(out / BEST, lambda part: part.write_text(text, encoding="utf-8"))
    return result


def _bounds_of(spec: PlanSpec, family: Family) -> Bounds:
    one = family.plan((max(1, family.scales_from or 1),) * len(family.shapes))
    try:
        experiment = spec.base.load(one.changes(spec.experiment))
    except SimserveError as error:
        return Bounds(str(error), refused=True)
    return bounds(experiment, spec.load, spec.predicate.quantities, spec.fresh)


def _refuse_useless(refused: Sequence[tuple[Family, str]], families: Sequence[Family]) -> None:
    """Raises ConfigError for a value with which no plan can even be stated (a key that is missing): the mistake is in the value."""
    every = Counter(id(choice) for family in families for choice in family.choices)
    useless = Counter(id(choice) for family, _ in refused for choice in family.choices)
    for family, why in refused:
        for choice in family.choices:
            if useless[id(choice)] == every[id(choice)]:
                raise ConfigError(f"plan: no plan with '{choice.words or 'these values'}' can be stated: {why}")


def _bounded(spec: PlanSpec, plan: Plan, known: Bounds) -> Outcome:
    """A plan after its bounds: eliminated, or not run yet."""
    roles = tuple(shape.role for shape in plan.family.shapes)
    fate, why = Fate.NOT_RUN, ""
    if known.error:
        fate, why = Fate.IMPOSSIBLE, known.error
    elif broken := broken_at_best(limits(spec.predicate), known.best):
        fate, why = Fate.TOO_SLOW, broken
    elif busy := known.overloaded(plan.counts, roles):
        fate, why = Fate.OVERLOADED, busy
    elif late := broken_at_best(
        limits(spec.predicate), known.best_in_bursts(plan.counts, spec.predicate.quantities), "however its bursts are served"
    ):
        fate, why = Fate.OVERLOADED, late
    pools = tuple({"role": p.role, "count": p.count, "tp": p.tp, "pp": p.pp, "dp": p.dp, "ep": p.ep} for p in plan.placement.pools)
    utilisation = None if known.error else known.utilisation(plan.counts)
    return Outcome(plan.name, plan.family.hardware, pools, plan.devices, plan.usd_per_hour, fate, why, utilisation)


def _finalists(spec: PlanSpec, screen: Screen, runs: Runs) -> Iterator[tuple[Screened, Verification, dict[str, float | None]]]:
    """The cheapest plan that is verified, those that were refuted before it, and cheaper ones that missed it by chance; then, while its
    margin lies inside its error, the same make with more instances, and of each next cost the plan with most head-room."""
    best, cost, doubts = None, math.inf, False
    seeds: list[int] = []
    for one in screen.holding():
        if best is not None and _cost(one.plan, one.values) >= cost:
            continue  # an autoscaler's plan that cost more in the run that it held than the one that is verified
        seeds = seeds or _heaviest_first(spec, one)
        verification, values = _verify(spec, one, runs, seeds)
        yield one, verification, values
        if verification.failures:
            seeds = _hardest_first(spec, one, runs, seeds, verification.seeds)
            screen.hardest = seeds[0]
        elif _cost(one.plan, values) < cost:
            best, cost, doubts = one, _cost(one.plan, values), bool(verification.doubtful)
            screen.below = cost
    for one in screen.near_misses(cost):
        seeds = seeds or _heaviest_first(spec, one)
        verification, values = _verify(spec, one, runs, seeds)
        yield one, verification, values
        if not verification.failures:
            best, cost, doubts = one, _cost(one.plan, values), bool(verification.doubtful)
            break
    if best is None:
        return
    above = [one for one in screen.plans if not one.why and one.plan.order > best.plan.order]
    above.sort(key=lambda one: (one.plan.order, one.utilisation or 0.0))
    doubtful, family = doubts, best.plan.family
    for _ in range(spec.section.finalists - 1):
        more = [one for one in above if one.plan.family is family] if doubtful else []
        chosen = next(iter(more or above), None)
        if chosen is None:
            return
        verification, values = _verify(spec, chosen, runs, seeds, until_settled=True)
        yield chosen, verification, values
        doubtful &= bool(verification.doubtful or verification.failures)
        above = [one for one in above if one is not chosen and (one.plan.order != chosen.plan.order or doubtful)]


def _cost(plan: Plan, values: Mapping[str, float | None]) -> float:
    """What plans are ranked by: of an autoscaler's what its run cost."""
    measured = values.get("usd_per_hour")
    if not plan.priced_by_run:
        return plan.order
    if measured is not None and plan.usd_per_hour is not None:
        return measured
    if plan.paid_at_least is None:
        return plan.order
    return (values.get("instances_mean") or float(sum(plan.counts))) * plan.family.shapes[0].devices


def _why(spec: PlanSpec, verification: Verification) -> str:
    """The limits that fresh seeds showed to be broken, and on how many of them where the others could not make up for it."""
    text, ran, of = "; ".join(verification.failures), len(verification.seeds), spec.section.replicates
    return f"{text} on {ran} of {of} fresh seeds, which decides it" if text and ran < of else text


def _heaviest_first(spec: PlanSpec, one: Screened) -> list[int]:
    """The fresh seeds in the order of what bursts do to a plan at least: what is most likely to refute it comes first."""
    prompts = _bounds_of(spec, one.plan.family).prompts
    if len(prompts) < len(spec.seeds):
        return spec.seeds
    waits = {seed: of.longest_wait_s(one.plan.counts[0]) for seed, of in zip(spec.seeds, prompts, strict=True)}
    return sorted(spec.seeds, key=lambda seed: -waits[seed])


def _hardest_first(spec: PlanSpec, one: Screened, runs: Runs, seeds: Sequence[int], ran: Sequence[int]) -> list[int]:
    """The seeds in the order in which they are likely to refute the next plan: what this one met worst comes first."""
    found = runs.of([Wanted(one.plan, 1.0, seed) for seed in ran])
    closest = [tightest(limits(spec.predicate), run.values) for run in found]
    margins = {seed: math.inf if pair is None else pair[1] for seed, pair in zip(ran, closest, strict=True)}
    return sorted(seeds, key=lambda seed: margins.get(seed, math.inf))


def _verify(
    spec: PlanSpec, one: Screened, runs: Runs, seeds: Sequence[int], until_settled: bool = False
) -> tuple[Verification, dict[str, float | None]]:
    """On all fresh seeds, or as many as refute it. `until_settled`: a plan beside the answer needs no more than leave no doubt."""
    wanted, limited = [Wanted(one.plan, 1.0, seed) for seed in seeds], limits(spec.predicate)
    asked = wanted[min(1, len(wanted) - 1)]  # the second: plans that the first refutes need no belief
    found, refuted = runs.of(wanted[:1], believe=wanted[0] is asked), False
    for more in (wanted[1:2], wanted[2:]):
        refuted = hopeless(found, limited, len(wanted))
        if refuted or (len(found) == 2 and found[0] == found[1]):
            break  # or a replayed trace: further seeds repeat the run
        if until_settled and settled(found, limited, spec.experiment):
            break
        found += runs.of(more, believe=asked in more)
    belief = Believed() if refuted or any(run.error for run in found) else runs.belief(asked)
    return verified(found, sorted(seeds[: len(found)]), spec.predicate, limited, spec.experiment, belief)


def _screened(outcome: Outcome, one: Screened) -> Outcome:
    if one.held:
        return _with(outcome, Fate.HELD, "met it on the seed of the search; another plan of its cost was chosen", one.values, 1.0)
    if one.why:
        return _with(outcome, Fate.FAILED, one.why, one.values, one.fraction)
    if one.fraction:
        return _with(outcome, Fate.NOT_RUN, "ranked behind a plan of its cost after a short run", one.values, one.fraction)
    return outcome


def _with(
    outcome: Outcome, fate: Fate, why: str, values: Mapping[str, float | None], fraction: float, verification: Verification | None = None
) -> Outcome:
    return replace(outcome, fate=fate, why=why, values=dict(values), fraction=fraction, verification=verification)
