"""Simulates a case and reads the metrics that were measured off the result."""

from __future__ import annotations

import numpy as np

from simserve.config.engine_profile import load_engine
from simserve.cost.contract import PrefillSlice
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.errors import SimserveError
from simserve.serving.case import Case
from simserve.serving.machine import Overheads, build_instance, overheads_of
from simserve.serving.metrics import F64, summarise
from simserve.serving.workloads import build_workload
from simserve.workload.requests import Workload

WARM_UP_SHARE = 0.1
"""Share of a load stage's requests that are not counted: the stage is measured for minutes, the simulation starts empty."""

_SATURATED = 0.9
"""Share of the users busy at which a stage with serialised users is a closed loop."""


class UnsimulableError(SimserveError):
    """The case describes something the engine would not run as stated."""


def predict(case: Case, overheads: Overheads | None = None) -> dict[str, float]:
    """Every metric of the simulated run. `overheads` replaces those of the engine profile.

    Raises SimserveError when the case cannot be run: an impossible layout, weights or prompts that do not fit.
    """
    overheads = overheads or overheads_of(load_engine(case.profile))
    instance = build_instance(case, overheads)
    if case.load.kind == "phases":
        return _phases(case, instance)
    think_s = overheads.request_s + overheads.request_per_prompt_token_s * case.load.prompt.mean
    workload = build_workload(case, think_s)
    records = simulate(workload, [instance])
    found = _summary(case, workload, records, overheads)
    if case.load.kind == "sessions":
        busy = case.load.rate_per_s * found["e2e_mean"] / case.load.concurrency
        if busy > _SATURATED:
            workload = build_workload(case, think_s, saturated=found["e2e_mean"])
            records = simulate(workload, [build_instance(case, overheads)])
            found = _summary(case, workload, records, overheads)
    return found


def _summary(case: Case, workload: Workload, records: RunRecords, overheads: Overheads) -> dict[str, float]:
    from simserve.engine.records import Status

    rejected = int((records.requests.status != Status.COMPLETED).sum())
    if rejected > 0.01 * len(records.table):
        number = int(records.requests.reason[records.requests.status != Status.COMPLETED][0])
        raise UnsimulableError(f"requests are rejected: {records.requests.reasons[number]}")
    outside: F64 = overheads.request_s + overheads.request_per_prompt_token_s * workload.requests.prompt_tokens.astype(np.float64)
    first = int(WARM_UP_SHARE * len(workload.requests)) if case.load.kind == "sessions" else 0
    return summarise(records, outside, first)


def _phases(case: Case, instance: InstanceSpec) -> dict[str, float]:
    """One step with all prompts, then the mean of the decode steps.

    Raises UnsimulableError when the prompts do not fit the KV cache: then the engine ran them as several batches.
    """
    load = case.load
    batch, prompt, steps = load.concurrency, int(load.prompt.mean), max(int(load.output.mean) - 1, 1)
    if batch * prompt > instance.kv_blocks * instance.block_tokens:
        raise UnsimulableError("the batch does not fit the KV cache at once")
    cost = instance.cost
    return {
        "prompt_phase": cost.step_time(0, 0, 0, [PrefillSlice(prompt, 0)] * batch),
        "decode_step": float(np.mean(cost.decode_times(batch, batch * (prompt + 1), prompt + 1, steps))),
    }
