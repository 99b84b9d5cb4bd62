"""The load that plans must serve: its rate and lengths, from the requests themselves, and the same workload cut short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError
from simserve.study.base import with_seed
from simserve.workload.config import build_workload
from simserve.workload.requests import F64, I64, RequestTable


@dataclass(frozen=True, slots=True)
class Offered:
    """The requests of an experiment, those that failed in the trace left out.

    arrival_s   when they come, in order; lengths and classes are in this order too
    rate_per_s  requests a second from the first arrival to the last; None where clients wait for answers, so that the load follows the plan
    reusable    prompts say what they contain, so that a prefix cache may spare computing them
    """

    table: RequestTable
    arrival_s: F64
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
    def decode_tokens(self) -> float:
        """Mean tokens of an answer that decode steps give: all but the first, which comes with the prompt's last step."""
        return float((self.output - 1).mean())

    @property
    def decode_context(self) -> float:
        """Mean tokens that a decoding request attends, over decode steps."""
        steps = self.output - 1
        if not steps.any():
            return self.prompt_tokens
        return float((steps * (self.prompt + self.output / 2)).sum() / steps.sum())


def offered(experiment: Experiment) -> Offered:
    """The load of an experiment. Raises TraceError or ConfigError as building it does, and for one without answers."""
    assert experiment.spec.workload is not None
    workload = build_workload(experiment.spec.workload, experiment.base_dir, experiment.spec.seed)
    table = workload.requests
    served = np.argsort(table.arrival_s, kind="stable")
    served = served[table.output_tokens[served] > 0]
    if not len(served):
        raise ConfigError(f"{experiment.name}: no request of the workload has an answer, so there is nothing to plan for")
    span_s = float(table.arrival_s[served[-1]] - table.arrival_s[served[0]])
    waits = workload.concurrency is not None or workload.max_concurrency is not None or bool((table.after >= 0).any())
    rate = None if waits or span_s <= 0 else len(served) / span_s
    return Offered(
        table, table.arrival_s[served], table.prompt_tokens[served], table.output_tokens[served],
        table.slo_class.codes[served].astype(np.int64), rate, table.prefix is not None,
    )  # fmt: skip


def said(experiment: Experiment, load: Offered) -> str:
    """The load in words: '6.04 requests/s (2,000 in all), prompts of 1,526 and answers of 255 tokens on average', and by which factor the
    experiment speeds its trace up, which a trace put in another's place inherits."""
    many = f"{len(load.arrival_s):,}"
    counted = f"{many} requests" if load.rate_per_s is None else f"{load.rate_per_s:,.3g} requests/s ({many} in all)"
    text = f"{counted}, prompts of {load.prompt_tokens:,.0f} and answers of {load.output_tokens:,.0f} tokens on average"
    trace = None if experiment.spec.workload is None else experiment.spec.workload.trace
    return text if trace is None or trace.rate_scale == 1 else f"{text}, {trace.rate_scale:g} times as fast as in the trace"


def fresh_loads(experiment: Experiment, load: Offered, seeds: Sequence[int]) -> list[Offered]:
    """The load on each of these seeds; one alone where the seed changes nothing (a replayed trace)."""
    found: list[Offered] = []
    for seed in seeds:
        found.append(offered(with_seed(experiment, seed)))
        if len(found) == 1 and _same(load, found[0]):
            break
    return found


def _same(one: Offered, other: Offered) -> bool:
    pairs = ((one.arrival_s, other.arrival_s), (one.prompt, other.prompt), (one.output, other.output))
    return all(np.array_equal(own, theirs) for own, theirs in pairs)


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
