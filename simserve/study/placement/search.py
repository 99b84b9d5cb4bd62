"""`simserve place`: the placement with the highest rate per device at which a predicate holds.

Every placement is bisected, in rounds: each round probes the placements still in play at once. One whose lowest failing rate is not above
the best holding rate of another of its kind cannot win any more and is dropped, so that most are probed a few times only (DistServe's
search, which passes the best rate found so far from one configuration to the next, does the same). It is a view of the plan search: the
placements are its plans, and a load that its bounds refuse (`bounded`) fails without a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from simserve.config.experiment import Experiment
from simserve.config.paths import hardware_reference
from simserve.errors import ConfigError
from simserve.files import yaml_text
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.progress.study import Progress, Step, shown
from simserve.report.files import write_whole
from simserve.study.backends import execute
from simserve.study.base import Base, base
from simserve.study.believed_load import believed_load
from simserve.study.cache import Row, RunCache, run_key
from simserve.study.capacity.search import DEFAULT_PREDICATE
from simserve.study.caveats import LOSSES, Run, at_an_end, losses
from simserve.study.folder import opened, other_versions_note
from simserve.study.limits import Steering, steering
from simserve.study.money import refuse_unpriced
from simserve.study.placement.bounded import PlacementBounds
from simserve.study.placement.candidates import placements
from simserve.study.placement.figures import Tried
from simserve.study.placement.placement import KINDS, Affinity, Kind, Placement
from simserve.study.placement.result import PLACEMENT, PlacementResult
from simserve.study.predicate import Predicate, parse
from simserve.study.rate_key import rate_key as find_rate_key
from simserve.study.rate_key import value_at
from simserve.study.search import Search
from simserve.study.task import Task

MOST = 2_000
BEST = "best.yaml"


@dataclass(frozen=True, slots=True)
class PlacementSpec:
    """What to look for: the placement with the highest `rate_key` per device at which `predicate` holds and the queue does not grow."""

    base: Base
    experiment: Experiment
    predicate: Predicate
    rate_key: str
    start_per_device: float
    whole: bool
    tolerance: float
    placements: tuple[Placement, ...]
    node_devices: int
    affinity: Affinity
    between_nodes: Mapping[str, float] | None
    notes: tuple[str, ...] = ()

    @property
    def steering(self) -> Steering:
        """Which way a probe sends a search."""
        return steering(self.predicate)


@dataclass(slots=True)
class _Candidate:
    """`search` is over rates per device, or where these are whole numbers (clients) over those of the whole placement.

    limit, saturates  why it fails at `high`, and whether only because the queue grew
    dear              why it does not hold at the highest load from which the search went on, "" where it does
    values            figures of the run there; of all `runs` only the counts of what was not served
    bounded           loads that needed no run, since bounds refuse them
    """

    placement: Placement
    search: Search
    error: str | None = None
    dropped: bool = False
    limit: str = ""
    saturates: bool = False
    values: Row = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    bounded: int = 0
    dear: str = ""

    @property
    def open(self) -> bool:
        return self.error is None and not self.dropped and self.search.outcome is None

    @property
    def low(self) -> float | None:
        """None, too, where the highest load that the search allows breaks what improves with the load (`limits.Steering`)."""
        return self._per_device(self.search.low) if not self.dear else None

    def tried(self) -> Tried:
        """What came of it."""
        values, limit = ({}, self.dear) if self.dear else (self.values, self.limit)
        return Tried(
            self.placement, self.low, self.high, self.dropped, len(self.runs), limit, self.error, values, self.saturates, self.bounded
        )

    @property
    def high(self) -> float | None:
        return self._per_device(self.search.high)

    def rate(self, asked: float) -> float | int:
        """The rate of the whole placement at what the search asks for."""
        return int(asked) if self.search.whole else float(f"{asked * self.placement.devices:.6g}")

    def _per_device(self, found: float | None) -> float | None:
        return found if found is None or not self.search.whole else found / self.placement.devices


def place(
    source: Experiment | str | Path | Mapping[str, Any],
    /,
    devices: int,
    *,
    node_devices: int = 8,
    affinity: Affinity = "high",
    when: str | None = None,
    kinds: Sequence[Kind] = KINDS,
    most_instances: int | None = None,
    rate_key: str | None = None,
    tolerance: float = 0.05,
    jobs: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool | Progress = False,
) -> PlacementResult:
    """The best placement of an experiment's instances on at most `devices` devices.

    node_devices    devices of a node; tensor parallelism stays inside one
    affinity        "high" or "low": whether the network between nodes may carry KV (see `study.placement`)
    when            what must hold, as in `capacity`; default: 99 % of the requests meet the experiment's SLO
    kinds           "disaggregated", "mixed" or both
    most_instances  of a pool; None = as many as the devices allow
    tolerance       of the rate, as a fraction of it
    out, resume     keeps finished runs in a directory, and continues there

    The instances are as the experiment's group of that role describes them. Raises ConfigError before anything runs.
    """
    spec = specify(
        source, devices, node_devices=node_devices, affinity=affinity, when=when, kinds=kinds, most_instances=most_instances,
        rate_key=rate_key, tolerance=tolerance,
    )  # fmt: skip
    folder = None if out is None else Path(out)
    with shown(progress) as show:
        return find(spec, jobs, folder, resume, show)


def specify(
    source: Experiment | str | Path | Mapping[str, Any],
    devices: int,
    *,
    node_devices: int = 8,
    affinity: Affinity = "high",
    when: str | None = None,
    kinds: Sequence[Kind] = KINDS,
    most_instances: int | None = None,
    rate_key: str | None = None,
    tolerance: float = 0.05,
    changes: Mapping[str, Any] | None = None,
) -> PlacementSpec:
    """The search, checked. Raises ConfigError."""
    origin = base(source, changes)
    experiment = origin.load()
    if when is None:
        if not any(experiment.spec.slo.model_dump(exclude_none=True).values()):
            raise ConfigError("say what must hold (--when 'ttft.p90 <= 0.2'); the experiment states no SLO to go by")
        when = DEFAULT_PREDICATE
    if not 0 < tolerance < 1:
        raise ConfigError(f"tolerance: found {tolerance:g}, expected a fraction above 0 and below 1, such as 0.05 or 5%")
    test = parse(when)
    refuse_unpriced(experiment, test)
    section = experiment.spec.model_section
    model = load_model(section.name, base_dir=experiment.base_dir, quantisation=section.quantisation)
    found = placements(model, devices, node_devices, affinity, kinds)
    if most_instances is not None:
        found = [p for p in found if all(pool.count <= most_instances for pool in p.pools)]
    if len(found) > MOST:
        raise ConfigError(f"{len(found):,} placements are more than {MOST:,}: use fewer devices or --instances, and replicate the best")
    key = rate_key or find_rate_key(experiment)
    start = value_at(experiment, key)
    written = sum(group.count * group.parallel.tp * group.parallel.pp * group.parallel.dp for group in experiment.groups)
    whole = isinstance(start, int) and not key.endswith(("rate_per_s", "rate_scale"))
    return PlacementSpec(
        origin, experiment, test, key, float(f"{start / written:.6g}"), whole, tolerance, tuple(found), node_devices, affinity,
        _between_nodes(experiment, node_devices, affinity), (*_notes(origin), *([model.taken] if model.taken else [])),
    )  # fmt: skip


def find(
    spec: PlacementSpec, jobs: int | None = None, out: Path | None = None, resume: bool = False, progress: Progress | None = None
) -> PlacementResult:
    """Runs the search. Raises ConfigError when no placement can be run at all, OutputError for `out`."""
    cache = None if out is None else opened(out, "placement search", PLACEMENT, resume=resume)
    candidates = [_Candidate(placement, _search(spec, placement)) for placement in spec.placements]
    bounded = _bounds(spec)
    while wanted := _wanted(candidates):
        _probe(spec, [pair for pair in wanted if not _refused(bounded, *pair)], jobs, cache, lambda: _tell(candidates, progress))
        for kind in KINDS:
            rivals = [c for c in candidates if c.placement.kind == kind]
            leads = max((c.low or 0.0 for c in rivals), default=0.0)
            for candidate in rivals:
                high = candidate.high
                candidate.dropped |= candidate.open and high is not None and high <= leads
    if all(candidate.error is not None for candidate in candidates):
        raise ConfigError(f"no placement can be run; the first: {candidates[0].placement}: {candidates[0].error}")
    tried = tuple(candidate.tried() for candidate in candidates)
    stated = (spec.experiment.name, spec.predicate, spec.rate_key, spec.tolerance, spec.affinity)
    notes = [*spec.notes, *([] if cache is None else other_versions_note(cache))]
    result = PlacementResult(*stated, tried, tuple(notes))
    best = next((c for c in candidates if result.best is not None and c.placement == result.best.placement), None)
    if best is not None:
        result = replace(result, search_notes=(*notes, *losses(best.runs, spec.predicate.quantities)))
        if best.search.low is not None:
            experiment = experiment_at(spec, best.placement, best.rate(best.search.low))
            result = replace(result, belief=believed_load(experiment, spec.predicate, best.saturates))
    if out is not None:
        result.write(out)
        if best is not None and best.search.low is not None:
            text = yaml_text.dump(experiment_at(spec, best.placement, best.rate(best.search.low)).resolved())
            write_whole(out / BEST, lambda part: part.write_text(text, encoding="utf-8"))
    return result


def _wanted(candidates: Sequence[_Candidate]) -> list[tuple[_Candidate, float]]:
    return [(c, rate) for c in candidates if c.open and (rate := c.search.next_rate()) is not None]


def _bounds(spec: PlacementSpec) -> PlacementBounds:
    """Demands follow the load where it is the workload's own rate, and no number of clients."""
    written = value_at(spec.experiment, spec.rate_key)
    follows = not spec.whole and spec.rate_key == _own_key(spec.experiment)
    return PlacementBounds(lambda one: experiment_at(spec, one, written), spec.predicate, float(written) if follows else 0.0)


def _own_key(experiment: Experiment) -> str:
    try:
        return find_rate_key(experiment)
    except ConfigError:
        return ""


def _refused(bounded: PlacementBounds, candidate: _Candidate, rate: float) -> bool:
    """Whether bounds answer for a candidate: it cannot be run at all, or this load cannot hold."""
    try:
        known = bounded.of(candidate.placement)
    except ConfigError as error:
        candidate.error = str(error)
        return True
    if known.known.error:
        candidate.error = known.known.error
        return True
    refusal = known.refuses(candidate.rate(rate))
    if refusal is None:
        return False
    candidate.limit, candidate.saturates = refusal.why, False
    candidate.bounded += 1
    candidate.search.tell(rate, False, refusal.at_any)
    return True


def _probe(spec: PlacementSpec, wanted: Sequence[tuple[_Candidate, float]], jobs: int | None, cache: RunCache | None, tell: Any) -> None:
    """One round. What is in the cache is not run again."""
    tasks, keys = [], {}
    for number, (candidate, rate) in enumerate(wanted):
        try:
            experiment = experiment_at(spec, candidate.placement, candidate.rate(rate))
        except ConfigError as error:
            candidate.error = str(error)
            continue
        keys[number] = run_key(experiment) if cache is not None else ""
        row = cache.get(keys[number], [q.column for q in spec.predicate.quantities]) if cache is not None else None
        if row is not None:
            _judge(spec, candidate, rate, row)
        else:
            tasks.append(Task(number, experiment, spec.predicate.quantities))
    for outcome in execute(tasks, len(tasks), jobs=jobs) if tasks else ():
        candidate, rate = wanted[outcome.number]
        if outcome.values is None:
            candidate.error = outcome.error
        else:
            if cache is not None:
                cache.put(keys[outcome.number], outcome.values)
            _judge(spec, candidate, rate, outcome.values)
        tell()


def _search(spec: PlacementSpec, placement: Placement) -> Search:
    if spec.whole:
        return Search(max(1.0, round(spec.start_per_device * placement.devices)), spec.tolerance, whole=True)
    return Search(spec.start_per_device, spec.tolerance)


def _notes(origin: Base) -> list[str]:
    """What is to be said of the experiment whatever comes out."""
    if origin.variant is not None or not origin.variants:
        return []
    return [f"this is the experiment as it stands; it has the variants {', '.join(origin.variants)} (--set variant=NAME)"]


def experiment_at(spec: PlacementSpec, placement: Placement, rate: float | int) -> Experiment:
    """The experiment placed so, at that load of the whole placement. Raises ConfigError."""
    changes: dict[str, Any] = {"cluster.instances": placement.groups(spec.experiment), spec.rate_key: rate}
    if placement.kind == "disaggregated":
        changes["cluster.network.between_nodes"] = spec.between_nodes
    return spec.base.load(changes)


def _between_nodes(experiment: Experiment, node_devices: int, affinity: Affinity) -> dict[str, float] | None:
    """How KV leaves a node: as the experiment says, or through the devices' NICs where the profile knows them. With low affinity it
    never does."""
    if affinity == "low":
        return None
    stated = experiment.spec.cluster.network.between_nodes
    if stated is not None:
        return {**stated.model_dump(), "node_devices": node_devices}
    link = load_profile(hardware_reference(experiment.groups[0].hardware, experiment.base_dir)).device.network
    if link is None:
        return None
    return {"bytes_per_s": link.bytes_per_s * node_devices, "latency_s": link.latency_s, "node_devices": node_devices}


def _judge(spec: PlacementSpec, candidate: _Candidate, rate: float, values: Row) -> None:
    reasons, stable = spec.predicate.failures(values), not values.get("saturated")
    holds = stable and not reasons
    goes_on = stable and spec.steering.goes_on(values)
    if goes_on:
        candidate.values, candidate.dear = values, "; ".join(reasons)
    if not holds:
        candidate.saturates = not reasons
        candidate.limit = "; ".join([*reasons, *([] if stable else ["the queue grew through the run"])])
    candidate.runs.append(Run(spec.experiment.spec.seed, holds, {column: values.get(column) for column in LOSSES}))
    candidate.search.tell(rate, goes_on, at_an_end(values, goes_on))


def _tell(candidates: Sequence[_Candidate], progress: Progress | None) -> None:
    if progress is not None:
        settled = sum(not c.open for c in candidates)
        failed = sum(c.error is not None for c in candidates)
        progress(Step(f"placements, {sum(len(c.runs) for c in candidates)} probes", settled, len(candidates), failed, None))
