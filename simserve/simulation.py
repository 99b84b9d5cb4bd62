"""One simulation of an experiment, as a result: what the Python API and every run of a study do, each with its own extras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.config.python_policies import NONE, PythonPolicies
from simserve.policies import blame

if TYPE_CHECKING:
    from simserve.config.assemble import Assembly
    from simserve.config.experiment import Experiment
    from simserve.config.instances import InstanceGroup
    from simserve.engine.records import InstanceInfo, RunRecords
    from simserve.engine.spec import InstanceSpec
    from simserve.progress.run import Progress
    from simserve.report.money import Tokens
    from simserve.report.result import Result


def streamed_or_whole(
    experiment: Experiment, given: PythonPolicies = NONE, *, progress: Progress | None, check: bool, requests_file: Path | None, bands: bool
) -> Result:
    """Runs an experiment once, as `simulated` with `believe`; in pieces where it has more requests than its `stream_above`.

    requests_file  where requests are then written while they end; None = a temporary place
    bands          the run is to be repeated for bands: it is recorded whole
    """
    from simserve.config.assemble import assemble

    with blame.named():
        parts = assemble(experiment, given, draw=_may_be_long(experiment))
        requests = len(parts.workload)
        above = requests > experiment.spec.stream_above
        reason = _whole_because(experiment, parts, bands) if above else ""
        if above and not reason:
            return _in_pieces(experiment, parts, progress, check, requests_file)
        parts = parts.with_all_requests(experiment)
        result = simulated_parts(experiment, parts, progress=progress, check=check, believe=True)
    if reason:
        said = f"Recorded whole, in memory that grows with its {requests:,} requests, for {reason} (stream_above)."
        result.notes = (*result.notes, said)
    return result


def _may_be_long(experiment: Experiment) -> bool:
    """Whether an experiment may have more requests than its `stream_above`, as far as can be told before a trace is read."""
    workload = experiment.spec.workload
    if workload is None:
        return False
    if workload.trace is not None:
        return workload.trace.resample is None
    return (workload.count or 0) > experiment.spec.stream_above


def _whole_because(experiment: Experiment, parts: Assembly, bands: bool) -> str:
    """What of an experiment needs all its records at once; empty where nothing does."""
    from simserve.engine.pieces import whole_only

    spec = experiment.spec
    others = [one for one in parts.cluster.controllers if not type(one).__module__.startswith("simserve.policies.rebalancing")]
    scales = bool(others or parts.cluster.node_pools or parts.cluster.failures)
    speculates = any(one.accepts is not None for one in parts.instances)
    needs = (
        (spec.output.timeline, "its timeline"),
        (spec.output.steps, "its file of steps"),
        (bands, "its intervals"),
        (spec.metrics.cooldown_s > 0, "its cool-down, which is told from the end"),
        (speculates, "speculative decoding"),
        (scales, "its scaling log: controllers, node pools or failures"),
    )
    return next((what for needed, what in needs if needed), whole_only(parts.workload))


def _in_pieces(experiment: Experiment, parts: Assembly, progress: Progress | None, check: bool, requests_file: Path | None) -> Result:
    from simserve.engine import simulate
    from simserve.engine.pieces import PIECE_REQUESTS
    from simserve.report.streamed.result import StreamedResult
    from simserve.report.streamed.run import Streamed
    from simserve.uncertainty.facts import facts_of

    spec, costs = experiment.spec, [one.cost for one in parts.instances]
    table = parts.workload.requests
    slo = spec.slo.by_class(table.slo_class.names)
    streamed = Streamed(costs, slo, spec.metrics.warmup_s, requests_file, middle=len(parts.workload) // 2)
    with streamed.spool:
        records = simulate(
            parts.workload,
            parts.instances,
            parts.cluster,
            fast_forward=spec.fast_forward,
            check=check,
            until_s=spec.until_s,
            progress=progress,
            pieces=streamed,
            piece_requests=PIECE_REQUESTS,
        )
    records = _told(experiment, parts, records)
    resolved, totals = parts.resolved(experiment), streamed.totals
    result = StreamedResult(records, resolved, totals.said(records), streamed.spool)
    result.energy, result.experts = totals.energy(records), totals.experts()
    _put_money(result, experiment, totals.tokens)
    result.notes = experiment.old_keys
    if streamed.stretch is not None:
        prompt, output = totals.mean_lengths()
        result.facts = replace(facts_of(replace(streamed.stretch, instances=records.instances), costs), prompt=prompt, output=output)
    return result


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
    from simserve.report.money import Tokens
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
    records = _told(experiment, parts, records)
    metrics = experiment.spec.metrics
    slo = experiment.spec.slo.by_class(records.table.slo_class.names)
    result = Result(records, parts.resolved(experiment), slo, warmup_s=metrics.warmup_s, cooldown_s=metrics.cooldown_s)
    costs = [spec.cost for spec in parts.instances]
    result.energy, result.experts = run_energy(records, costs), run_experts(records, costs)
    _put_money(result, experiment, Tokens.of(records))
    result.notes = experiment.old_keys
    if believe:
        from simserve.uncertainty.facts import facts_of

        result.facts = facts_of(records, costs)
    return result


def _put_money(result: Result, experiment: Experiment, tokens: Tokens) -> None:
    """The energy of a run at the meter, and what it costs where the devices have prices."""
    from simserve.report.money import at_the_meter, run_money

    rates, records = experiment.rates(), result.records
    if result.energy is not None:
        result.energy = at_the_meter(result.energy, tokens, rates.pue, rates.gco2_per_kwh)
    hardware = [group.hardware for group in experiment.groups for _ in range(group.max_count)]
    prices = [price for name in hardware if (price := rates.of(name)) is not None]
    if len(prices) == len(hardware):
        kwh = None if result.energy is None else result.energy["kwh"]
        result.money = run_money(records, tokens, prices, kwh, rates.usd_per_kwh, rates.about)


def _told(experiment: Experiment, parts: Assembly, records: RunRecords) -> RunRecords:
    """The records with what is known of the instances' engines."""
    groups = [number for number, group in enumerate(experiment.groups) for _ in range(group.max_count)]
    about = zip(records.instances, groups, parts.instances, parts.notes, strict=True)
    known: dict[tuple[int, int, str], dict[str, Any]] = {}
    described = []
    for info, number, spec, notes in about:
        key = number, id(info.cost), info.policy  # instances of a group share their description
        if key not in known:
            known[key] = _with_engine(info, experiment, notes, _schedule(info, experiment, experiment.groups[number], spec))
        described.append(replace(info, cost=known[key]))
    return replace(records, instances=tuple(described))


def _with_engine(info: InstanceInfo, experiment: Experiment, instance_notes: tuple[str, ...], schedule: dict[str, Any]) -> dict[str, Any]:
    """An instance's description with the engine profile that its host overheads and defaults came from, which versions of the engine its
    schedules were held against, and where it is not what the engine would have."""
    engine = experiment.engine
    about = {"name": f"host overheads of engine profile {engine.name}", "engine": engine.engine, "versions": engine.versions}
    profile = {**about, "validated": engine.validated, "held_out": engine.verdict.words, "sources": list(engine.sources)}
    if engine.jitter is not None:
        profile["jitter"] = engine.jitter.model_dump()
    notes = {"notes": list(instance_notes)} if instance_notes else {}
    described = {**info.cost, "engine_profile": profile, "schedule": schedule, "measured_runs": _measured_runs(engine.name, info)}
    return {**described, **notes}


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
