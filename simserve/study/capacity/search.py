"""`simserve.capacity`: the highest load at which a stated predicate holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError
from simserve.progress.study import Progress, Step, shown
from simserve.study.backends import execute
from simserve.study.base import VARIANT, Base, base, with_seed
from simserve.study.believed_load import believed_load
from simserve.study.cache import RunCache, run_key
from simserve.study.capacity.figures import Probe, Replicate
from simserve.study.capacity.result import CAPACITY, CapacityResult
from simserve.study.caveats import at_an_end, better_with_load
from simserve.study.folder import opened, other_versions_note
from simserve.study.limits import Steering, steering
from simserve.study.money import refuse_unpriced
from simserve.study.predicate import Predicate, parse
from simserve.study.prepare import seeds_from
from simserve.study.rate_key import rate_key as find_rate_key
from simserve.study.rate_key import value_at
from simserve.study.search import Outcome, Search
from simserve.study.task import Outcome as Ran
from simserve.study.task import Task

DEFAULT_PREDICATE = "attainment >= 0.99"


@dataclass(frozen=True, slots=True)
class CapacitySpec:
    """What to look for: the highest value of `rate_key` at which `predicate` holds and the queue does not grow, for each seed.

    chance  instances fail at random times, which the seed decides besides the workload
    """

    base: Base
    name: str
    predicate: Predicate
    rate_key: str
    start: float
    whole: bool
    tolerance: float
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = ()
    chance: bool = False

    @property
    def steering(self) -> Steering:
        """Which way a probe sends the search."""
        return steering(self.predicate)


def capacity(
    source: Experiment | str | Path | Mapping[str, Any],
    /,
    when: str | None = None,
    *,
    rate_key: str | None = None,
    tolerance: float = 0.02,
    replicates: int | None = None,
    seeds: Sequence[int] | None = None,
    variant: str | None = None,
    jobs: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool | Progress = False,
) -> CapacityResult:
    """The highest load of an experiment at which `when` holds and the queue does not grow.

    when        a predicate over the figures of a run: "ttft.p99 <= 2.0 and classes.chat.attainment >= 0.95"; default: 99 % of the
                requests meet the experiment's SLO
    rate_key    what makes the load heavier; default: the rate of the arrivals, the rate_scale of a trace, the clients of a closed loop
    tolerance   of the answer, as a fraction of it
    replicates  independent searches with seeds from the experiment's own on (default 3), or the `seeds` themselves: their spread is
                the confidence interval
    variant     which variant of the experiment, where it has several
    out         directory of the probes, the plots and the answer; with `resume` the probes that lie there are not run again, whatever
                predicate they were run for

    Raises ConfigError for a predicate or key that makes no sense, OutputError when `out` holds something else.
    """
    changes = {} if variant is None else {VARIANT: variant}
    spec = specify(source, when, changes=changes, rate_key=rate_key, tolerance=tolerance, replicates=replicates, seeds=seeds)
    cache = None if out is None else opened(Path(out), "capacity search", CAPACITY, resume=resume)
    with shown(progress) as show:
        result = believed(spec, find(spec, jobs, show, cache))
    if out is not None:
        result.write(out)
    return result


def specify(
    source: Experiment | str | Path | Mapping[str, Any],
    when: str | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    rate_key: str | None = None,
    tolerance: float = 0.02,
    replicates: int | None = None,
    seeds: Sequence[int] | None = None,
) -> CapacitySpec:
    """The search, checked. Raises ConfigError."""
    origin = base(source, changes)
    experiment = origin.load()
    if when is None:
        stated = experiment.spec.slo.model_dump(exclude_none=True)
        if not any(stated.values()):
            raise ConfigError("say what must hold (--when 'ttft.p99 <= 2.0'); the experiment states no SLO to go by")
        when = DEFAULT_PREDICATE
    if not 0 < tolerance < 1:
        raise ConfigError(f"tolerance: found {tolerance:g}, expected a fraction above 0 and below 1, such as 0.02 or 2%")
    test = parse(when)
    refuse_unpriced(experiment, test)
    key = rate_key or find_rate_key(experiment)
    start = value_at(experiment, key)
    origin.load({key: start})  # a misspelt key is an error now
    if seeds is None and replicates is None:
        replicates = 3
    whole = isinstance(start, int) and not key.endswith(("rate_per_s", "rate_scale"))
    numbers = seeds_from(experiment.spec.seed, seeds, replicates)
    name, notes = experiment.name, []
    if origin.variant is not None:
        name = f"{name}.{origin.variant}"
    elif origin.variants:
        notes.append(f"this is the experiment as it stands; it has the variants {', '.join(origin.variants)} (--variant NAME)")
    notes += better_with_load(test.quantities, alone=steering(test).split)
    cap = getattr(experiment.spec.workload, "max_concurrency", None)
    if cap is not None and not key.endswith("max_concurrency"):
        notes.append(
            f"max_concurrency keeps all but {cap:,} requests at the client, and latencies count from when they are sent: what waits "
            "there is not tested, and a load beyond what is served may hold"
        )
    failures = experiment.spec.cluster.failures
    chance = failures is not None and failures.mtbf_s is not None
    return CapacitySpec(origin, name, test, key, float(start), whole, tolerance, numbers, tuple(notes), chance)


def find(spec: CapacitySpec, jobs: int | None = None, progress: Progress | None = None, cache: RunCache | None = None) -> CapacityResult:
    """Runs the searches of all seeds side by side. Raises ConfigError when a probe cannot be run.

    Every probe goes into the cache as it ends. A search is its probes and nothing else, so one that was interrupted takes the same
    way again, and what lies in the cache costs nothing.
    """
    searches = {seed: Search(spec.start, spec.tolerance, spec.whole) for seed in spec.seeds}
    probes: list[Probe] = []
    notes = [*spec.notes, *(other_versions_note(cache) if cache is not None else [])]
    way = spec.steering
    while True:
        wanted = [(seed, rate) for seed, search in searches.items() if (rate := search.next_rate()) is not None]
        if not wanted:
            break
        found = _probe(spec, wanted, jobs, cache)
        if not probes and len(found) > 1 and not spec.chance and all(probe.values == found[0].values for probe in found[1:]):
            # A replayed trace: the seed makes workloads and random failures, and here it has made the same workload each time.
            notes.append("the seed changes nothing in this workload, so there is one search and no confidence interval")
            searches, found = {found[0].seed: searches[found[0].seed]}, found[:1]
        for probe in found:
            goes_on = probe.stable and way.goes_on(probe.values)
            searches[probe.seed].tell(probe.rate, goes_on, at_an_end(probe.values, goes_on))
        probes += found
        if progress is not None:
            done = sum(search.outcome is not None for search in searches.values())
            progress(Step(f"searches, {len(probes)} probes", done, len(searches), 0, None))
    replicates = tuple(Replicate(seed, _outcome(seed, search, probes), search.low, search.high) for seed, search in searches.items())
    return CapacityResult(spec.name, spec.predicate, spec.rate_key, spec.tolerance, replicates, tuple(probes), tuple(notes))


def _outcome(seed: int, search: Search, probes: Sequence[Probe]) -> Outcome:
    """never, too, where the highest load that the search allows breaks what improves with the load."""
    at = [probe for probe in probes if probe.seed == seed and probe.rate == search.low]
    return "never" if at and not at[0].holds else search.outcome or "never"


def believed(spec: CapacitySpec, result: CapacityResult) -> CapacityResult:
    """The result with how far to believe it, from one more run at the load that the first seed found; as it is without an answer."""
    first = result.replicates[0]
    if result.rate is None or first.low is None:
        return result
    experiment = with_seed(spec.base.load({spec.rate_key: int(first.low) if spec.whole else first.low}), first.seed)
    return replace(result, belief=believed_load(experiment, spec.predicate, result.saturates))


def _probe(spec: CapacitySpec, wanted: Sequence[tuple[int, float]], jobs: int | None, cache: RunCache | None) -> list[Probe]:
    columns = [quantity.column for quantity in spec.predicate.quantities]
    tasks, keys, outcomes = [], {}, {}
    for number, (seed, rate) in enumerate(wanted):
        experiment = with_seed(spec.base.load({spec.rate_key: int(rate) if spec.whole else rate}), seed)
        if cache is not None:
            keys[number] = run_key(experiment)
            if (row := cache.get(keys[number], columns)) is not None:
                outcomes[number] = Ran(number, row, None)
                continue
        tasks.append(Task(number, experiment, spec.predicate.quantities))
    for outcome in execute(tasks, len(tasks), jobs=jobs):
        outcomes[outcome.number] = outcome
        if cache is not None and outcome.values is not None:
            cache.put(keys[outcome.number], outcome.values)
    return [_judge(spec, seed, rate, outcomes[number]) for number, (seed, rate) in enumerate(wanted)]


def _judge(spec: CapacitySpec, seed: int, rate: float, outcome: Ran) -> Probe:
    if outcome.values is None:
        raise ConfigError(f"{spec.rate_key} = {rate:g}, seed {seed}: {outcome.error}")
    stable = not outcome.values.get("saturated")
    reasons = spec.predicate.failures(outcome.values)
    if not stable:
        reasons.append("the queue grew through the run")
    return Probe(seed, rate, not reasons, stable, tuple(reasons), outcome.values)
