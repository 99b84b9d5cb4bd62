"""The Python door: load an experiment, run it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.config import experiment as experiments
from simserve.config import python_policies
from simserve.config.experiment import Experiment
from simserve.config.python_policies import Arguments
from simserve.config.schema import check_draws
from simserve.policies import blame
from simserve.progress.run import Progress, shown

if TYPE_CHECKING:
    from simserve.config.assemble import Assembly
    from simserve.engine.records import InstanceInfo
    from simserve.report.result import Result


def load(source: str | Path | Mapping[str, Any], /, **overrides: Any) -> Experiment:
    """The experiment in a YAML file, of a bundled name, or in a mapping of the same keys.

    Overrides change single keys; a dotted path is passed as `load(path, **{"workload.trace.rate_scale": 4})`.
    Raises ConfigError listing every mistake found.
    """
    with blame.named():
        return experiments.load(source, overrides)


def run(
    experiment: Experiment | str | Path | Mapping[str, Any],
    /,
    *,
    progress: bool | Progress = False,
    check: bool = False,
    intervals: int | None = None,
    scheduler: Any = None,
    router: Any = None,
    decode_router: Any = None,
    **overrides: Any,
) -> Result:
    """Simulates an experiment (or what `load` would make one of) and returns its result; nothing is written to disk.

    progress  True shows a progress line on stderr; a function is called with (requests ended, requests in all, simulated seconds)
    check     verify the invariants of docs/invariants.md while running (slower)
    intervals   run so many times more with operators as fast or slow as their check errors allow, and report the band of every
                headline (simserve/study/intervals.py); None = what the experiment says, 0 = none
    scheduler   an object or a class that follows simserve.contracts.Scheduler, for every instance (each gets a copy of its own), or a
                mapping from number or role of an instance group to one; instead of what the experiment names
    router, decode_router   likewise, of simserve.contracts.Router

    The result says which objects were given: the experiment's YAML alone does not reproduce it.
    Raises SimserveError for anything the user can mend.
    """
    from simserve.config.assemble import assemble

    given = Arguments(scheduler, router, decode_router)
    if isinstance(experiment, Experiment):
        if overrides:
            raise TypeError("overrides go to load() when the experiment is loaded already")
        loaded = experiment
    else:
        with blame.named():
            loaded = experiments.load(experiment, overrides, given=given)
    policies = python_policies.checked(loaded, given)
    draws = loaded.spec.intervals if intervals is None else intervals
    check_draws(draws)
    with blame.named(), shown(progress) as callback:
        result = measured(loaded, assemble(loaded, policies), progress=callback, check=check)
    if draws:
        from simserve.study.intervals import bands

        result.intervals = bands(loaded, draws, progress is True, given=policies)
    return result


def measured(experiment: Experiment, parts: Assembly, *, progress: Progress | None = None, check: bool = False) -> Result:
    """Simulates what was assembled of an experiment. `parts` is used up: policies keep state."""
    from simserve.engine import simulate
    from simserve.report.energy import run_energy, run_experts
    from simserve.report.result import Result

    records = simulate(
        parts.workload,
        parts.instances,
        parts.cluster,
        fast_forward=experiment.spec.fast_forward,
        check=check,
        until_s=experiment.spec.until_s,
        progress=progress,
    )
    about = zip(records.instances, parts.memory_notes, strict=True)
    records = replace(records, instances=tuple(_with_engine(info, experiment, notes) for info, notes in about))
    metrics = experiment.spec.metrics
    slo = experiment.spec.slo.by_class(records.table.slo_class.names)
    result = Result(records, parts.resolved(experiment), slo, warmup_s=metrics.warmup_s, cooldown_s=metrics.cooldown_s)
    costs = [spec.cost for spec in parts.instances]
    result.energy, result.experts = run_energy(records, costs), run_experts(records, costs)
    return result


def _with_engine(info: InstanceInfo, experiment: Experiment, memory_notes: tuple[str, ...]) -> InstanceInfo:
    """The instance's description with the engine profile that its host overheads and defaults came from, and where its memory differs."""
    engine = experiment.engine
    about = {"name": f"host overheads of engine profile {engine.name}", "engine": engine.engine, "versions": engine.versions}
    profile = {**about, "validated": engine.validated, "sources": list(engine.sources)}
    notes = {"memory_notes": list(memory_notes)} if memory_notes else {}
    return replace(info, cost={**info.cost, "engine_profile": profile, "measured_runs": _measured_runs(engine.name, info), **notes})


def _measured_runs(engine: str, info: InstanceInfo) -> dict[str, Any]:
    """How wrong the simulator was on measured runs of this engine, device and model, or that nobody has compared it."""
    from simserve.validation.accuracy import accuracy_of

    hardware, model = str(info.cost.get("hardware", "")), str(info.cost.get("model", ""))
    name = f"serving runs of {engine} with {model} on {hardware}"
    found = accuracy_of(engine, hardware, model)
    return {"name": name, "validated": found is not None, **(found or {})}
