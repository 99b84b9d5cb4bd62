"""One simulation of an experiment, as a result: what the Python API and every run of a study do, each with its own extras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simserve.config.python_policies import NONE, PythonPolicies
from simserve.policies import blame

if TYPE_CHECKING:
    from simserve.config.assemble import Assembly
    from simserve.config.experiment import Experiment
    from simserve.config.instances import InstanceGroup
    from simserve.engine.records import InstanceInfo
    from simserve.engine.spec import InstanceSpec
    from simserve.progress.run import Progress
    from simserve.report.result import Result


def simulated(
    experiment: Experiment, given: PythonPolicies = NONE, *, progress: Progress | None = None, check: bool = False, believe: bool = False
) -> Result:
    """Runs an experiment once, without bands.

    given  policy objects that stand in for those that the experiment names
    check  verify the invariants while running
    believe  find out how far to believe it (`simserve.uncertainty`): runs of studies do without
    Raises SimserveError; PolicyError names a third party's policy that failed.
    """
    from simserve.config.assemble import assemble

    with blame.named():
        return simulated_parts(experiment, assemble(experiment, given), progress=progress, check=check, believe=believe)


def simulated_parts(
    experiment: Experiment, parts: Assembly, *, progress: Progress | None = None, check: bool = False, believe: bool = False
) -> Result:
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
    groups = [group for group in experiment.groups for _ in range(group.max_count)]
    about = zip(records.instances, groups, parts.instances, parts.memory_notes, strict=True)
    described = (_with_engine(info, experiment, notes, _schedule(info, experiment, group, spec)) for info, group, spec, notes in about)
    records = replace(records, instances=tuple(described))
    metrics = experiment.spec.metrics
    slo = experiment.spec.slo.by_class(records.table.slo_class.names)
    result = Result(records, parts.resolved(experiment), slo, warmup_s=metrics.warmup_s, cooldown_s=metrics.cooldown_s)
    costs = [spec.cost for spec in parts.instances]
    result.energy, result.experts = run_energy(records, costs), run_experts(records, costs)
    _put_money(result, experiment, [group.hardware for group in groups])
    result.notes = experiment.old_keys
    if believe:
        from simserve.uncertainty.facts import facts_of

        result.facts = facts_of(records, costs)
    return result


def _put_money(result: Result, experiment: Experiment, hardware: Sequence[str]) -> None:
    """The energy of a run at the meter, and what it costs where the devices have prices. `hardware`: the profile of each instance."""
    from simserve.report.money import Tokens, at_the_meter, run_money

    rates, records = experiment.rates(), result.records
    tokens = Tokens.of(records)
    if result.energy is not None:
        result.energy = at_the_meter(result.energy, tokens, rates.pue, rates.gco2_per_kwh)
    prices = [price for name in hardware if (price := rates.of(name)) is not None]
    if len(prices) == len(hardware):
        kwh = None if result.energy is None else result.energy["kwh"]
        result.money = run_money(records, tokens, prices, kwh, rates.usd_per_kwh, rates.about)


def _with_engine(info: InstanceInfo, experiment: Experiment, memory_notes: tuple[str, ...], schedule: dict[str, Any]) -> InstanceInfo:
    """The instance's description with the engine profile that its host overheads and defaults came from, which versions of the engine its
    schedules were held against, and where its memory differs."""
    engine = experiment.engine
    about = {"name": f"host overheads of engine profile {engine.name}", "engine": engine.engine, "versions": engine.versions}
    profile = {**about, "validated": engine.validated, "held_out": engine.verdict.words, "sources": list(engine.sources)}
    if engine.jitter is not None:
        profile["jitter"] = engine.jitter.model_dump()
    notes = {"memory_notes": list(memory_notes)} if memory_notes else {}
    described = {**info.cost, "engine_profile": profile, "schedule": schedule, "measured_runs": _measured_runs(engine.name, info)}
    return replace(info, cost={**described, **notes})


def _schedule(info: InstanceInfo, experiment: Experiment, group: InstanceGroup, spec: InstanceSpec) -> dict[str, Any]:
    """Which versions of the engine its schedules were held against, and with which of its settings that does not hold."""
    from simserve.config.compared_settings import not_as_compared
    from simserve.config.verified_schedules import schedule_of, verified

    engine = experiment.engine
    profile, own = engine.name if experiment.bundled_engine else "", engine.scheduler.policy
    other = not_as_compared(group, engine, verified(profile), spec.kv_groups is not None) if info.policy == own else []
    return schedule_of(profile, info.policy, own, other)


def _measured_runs(engine: str, info: InstanceInfo) -> dict[str, Any]:
    """How wrong the simulator was on measured runs of this engine, device and model, or that it has not been compared; `other_weights` are
    formats that were compared where this one was not."""
    from simserve.validation.accuracy import accuracy_of

    hardware, model = str(info.cost.get("hardware", "")), str(info.cost.get("model", ""))
    name = f"serving runs of {engine} with {model} on {hardware}"
    found = accuracy_of(engine, hardware, model)
    if found is not None and info.cost.get("quantisation") not in found["weights"]:
        return {"name": name, "validated": False, "other_weights": found["weights"]}
    return {"name": name, "validated": found is not None, **(found or {})}
