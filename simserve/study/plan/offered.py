"""The load that plans must serve: its rate and lengths, from the requests themselves, and the same workload cut short."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError
from simserve.workload.config import build_workload
from simserve.workload.requests import I64, RequestTable


@dataclass(frozen=True, slots=True)
class Offered:
    """The requests of an experiment, those that failed in the trace left out.

    rate_per_s  requests a second from the first arrival to the last; None where clients wait for answers, so that the load follows the plan
    reusable    prompts say what they contain, so that a prefix cache may spare computing them
    """

    table: RequestTable
    prompt: I64
    output: I64
    slo_class: I64
    rate_per_s: float | None
    reusable: bool

    @property
    def requests(self) -> int:
        """Requests in all, failed ones counted."""
        return len(self.table)

    @property
    def prompt_tokens(self) -> float:
        """Mean of a prompt."""
        return float(self.prompt.mean())

    @property
    def output_tokens(self) -> float:
        """Mean of an answer."""
        return float(self.output.mean())

    @property
    def decode_context(self) -> float:
        """Mean tokens that a decoding request attends, over decode steps: a request is in as many as it has output tokens."""
        return float((self.output * (self.prompt + self.output / 2)).sum() / self.output.sum())


def offered(experiment: Experiment) -> Offered:
    """The load of an experiment. Raises TraceError or ConfigError as building it does, and for one without answers."""
    assert experiment.spec.workload is not None
    workload = build_workload(experiment.spec.workload, experiment.base_dir, experiment.spec.seed)
    table = workload.requests
    served = table.output_tokens > 0
    if not bool(served.any()):
        raise ConfigError(f"{experiment.name}: no request of the workload has an answer, so there is nothing to plan for")
    span_s = float(table.arrival_s[served].max() - table.arrival_s[served].min())
    waits = workload.concurrency is not None or workload.max_concurrency is not None or bool((table.after >= 0).any())
    rate = None if waits or span_s <= 0 else int(served.sum()) / span_s
    return Offered(
        table, table.prompt_tokens[served], table.output_tokens[served], table.slo_class.codes[served].astype(np.int64), rate,
        table.prefix is not None,
    )  # fmt: skip


def shortened(experiment: Experiment, load: Offered, fraction: float) -> dict[str, Any]:
    """What cuts the workload to its first requests, this fraction of them; nothing for the whole.

    Every plan gets the same requests (common random numbers). Of a replayed trace they are the first of the whole.
    """
    workload = experiment.spec.workload
    assert workload is not None
    if fraction >= 1.0:
        return {}
    requests = max(1, math.ceil(fraction * load.requests))
    if workload.trace is not None:
        return {"workload.trace.limit": requests}
    if workload.burstgpt_like is not None:
        return {"workload.burstgpt_like.limit": requests}
    if workload.count is not None:
        return {"workload.count": requests}
    assert workload.duration_s is not None
    return {"workload.duration_s": fraction * workload.duration_s}
