"""Simulates a case and reads the metrics that were measured off the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simserve.config.engine_profile import load_engine
from simserve.contracts import Slice, Step
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords, Status
from simserve.errors import SimserveError
from simserve.uncertainty.facts import facts_of, facts_of_steps
from simserve.validation.case import Case
from simserve.validation.disaggregated import as_clients_see, build_instances, routed
from simserve.validation.few_cores import on_its_cores
from simserve.validation.machine import Overheads, build_instance, overheads_of
from simserve.validation.metrics import F64, summarise
from simserve.validation.workloads import build_workload
from simserve.workload.requests import Workload

WARM_UP_FRACTION = 0.1
"""Fraction of a load stage's requests that are not counted: the stage is measured for minutes, the simulation starts empty."""

_REJECTED_FRACTION = 0.01
_WORTH_A_SECOND_RUN = 0.01


class UnsimulableError(SimserveError):
    """The case describes something the engine would not run as stated."""


def predict(case: Case, overheads: Overheads | None = None) -> dict[str, float]:
    """Every metric of the simulated run, and the numbers that its intervals rest on (`uncertainty.facts`). `overheads` replaces those of
    the engine profile.

    Raises SimserveError when the case cannot be run: an impossible layout, weights or prompts that do not fit.
    """
    overheads = overheads or overheads_of(load_engine(case.profile))
    overheads = inside_the_engine(case, overheads)
    if case.load.kind == "phases":
        return _phases(case, build_instance(case, overheads))
    specs = build_instances(case, overheads)
    workload, records = simulate_case(case, overheads, specs)
    warm_up = WARM_UP_FRACTION if case.load.kind == "repeated" else case.load.warm_up_fraction
    rows = len(workload.requests)
    first, end = int(warm_up * rows), rows - int(case.load.cool_down_fraction * rows)
    facts = facts_of(records, [spec.cost for spec in specs])
    return summarise(records, first_requests_s(workload, overheads), first, end) | facts.numbers()


def inside_the_engine(case: Case, overheads: Overheads) -> Overheads:
    """What is left where no client is: times taken by the engine's own scheduler, and batches given to it in the same process, know no
    request path, and such batches no streaming of every token either (a server's host time for each decoding request). And all of it on
    the cores that the run had."""
    overheads = on_its_cores(case, overheads)
    offline = bool(case.settings.get("offline"))
    if offline and overheads.request_s > 0:
        overheads = replace(overheads, host=replace(overheads.host, per_decode_request_s=0.0))
    if offline or case.settings.get("clock") == "engine":
        return Overheads(overheads.host)
    return overheads


def simulate_case(case: Case, overheads: Overheads, specs: Sequence[InstanceSpec] | None = None) -> tuple[Workload, RunRecords]:
    """The case's requests and what happened to them, on these instances (default: made with `overheads`).

    Raises UnsimulableError when requests are rejected.
    """
    workload = build_workload(case)
    specs = build_instances(case, overheads) if specs is None else list(specs)
    records = simulate(workload, specs, routed())
    if case.pools is not None:
        records = as_clients_see(records, specs)
    refused = records.requests.status != Status.COMPLETED
    if int(refused.sum()) > _REJECTED_FRACTION * len(records.table):
        raise UnsimulableError(f"requests are rejected: {records.requests.reasons[int(records.requests.reason[refused][0])]}")
    if case.settings.get("kv_offload") and records.lanes[0].span_kv_blocks.max(initial=0) >= specs[0].kv_blocks - specs[0].max_seqs:
        raise UnsimulableError("the KV cache overflows to the CPU, which is not simulated yet")
    return workload, records


def first_requests_s(workload: Workload, overheads: Overheads) -> F64:
    """Seconds that each request waits for the warm-up of its run: the first of each client of a closed loop, which have the first rows."""
    waits = np.zeros(len(workload.requests))
    waits[: workload.concurrency or 0] = overheads.first_request_s
    return waits


def _held_blocks(instance: InstanceSpec, tokens: int) -> float:
    """KV blocks of a sequence of so many tokens; where all layers keep every token, without rounding to blocks."""
    groups = instance.kv_groups
    return tokens / instance.block_tokens if groups is None else groups.pool_blocks(-(-tokens // instance.block_tokens), True)


def _phases(case: Case, instance: InstanceSpec) -> dict[str, float]:
    """One step with all prompts, then the mean of the decode steps.

    Raises UnsimulableError when the prompts do not fit the KV cache: then the engine ran them as several batches.
    """
    load = case.load
    batch, prompt, steps = load.concurrency, int(load.prompt.mean), max(int(load.output.mean) - 1, 1)
    if batch * _held_blocks(instance, prompt + int(load.output.mean)) > instance.kv_blocks:
        raise UnsimulableError("the batch and its answers do not fit the KV cache at once")
    cost, prompts, decodes = instance.cost, Step(0, slices=[Slice(prompt, 0)] * batch), Step(batch, batch * (prompt + 1), prompt + 1)
    return {
        "prompt_phase": case.settings.get("prompt_slowdown", 1.0) * cost.step_time(prompts),
        "decode_step": float(np.mean(cost.decode_times(decodes, steps))),
    } | facts_of_steps(cost, prompts, decodes).numbers()
