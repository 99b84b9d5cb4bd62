"""How the predictions of measured runs answer to overheads: values and slopes, by simulation at neighbouring overheads.

Overheads are seconds that steps and requests take in addition, so times of a run are nearly straight lines in them. Fits of many
subsets of the runs (one for each group that is left out) use these lines; what is judged is always simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simserve.validation import physical
from simserve.validation.case import Case
from simserve.validation.evaluate import evaluate
from simserve.validation.machine import Overheads
from simserve.validation.overhead_values import value, with_values

F64 = NDArray[np.float64]

LEARNED_METRICS = ("ttft_mean", "tpot_mean", "e2e_mean", "makespan", "output_tokens_per_s", "latency_sum", "prompt_phase", "decode_step")
"""Means: no tail decides an overhead."""

_RATES = frozenset({"output_tokens_per_s"})
_LEAST_FRACTION = 0.05
"""A line that would make a time vanish stops at this fraction of it."""


@dataclass(frozen=True, slots=True)
class Response:
    """One metric of one run near some overheads.

    seconds   predicted there (of a rate: seconds per token)
    measured  likewise
    at, slopes  by parameter: its value there, and seconds of the metric per second of it
    """

    case: Case
    metric: str
    measured: float
    seconds: float
    at: Mapping[str, float]
    slopes: Mapping[str, float]

    def predicted(self, values: Mapping[str, float]) -> float:
        """The metric's seconds at these overheads, along the lines."""
        moved = self.seconds + sum(slope * (values[name] - self.at[name]) for name, slope in self.slopes.items())
        return max(moved, _LEAST_FRACTION * self.seconds)


def responses(
    cases: Sequence[Case],
    at: Mapping[str, Overheads],
    parameters: Mapping[str, Sequence[str]],
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Response]:
    """The answers of every run to the parameters of its engine profile, around the overheads `at` (both by profile).

    Runs that cannot be simulated have none. Every simulation is cached: an interrupted call goes on where it was.
    """
    jobs: list[tuple[Case, Overheads]] = []
    for case in cases:
        base = at[case.profile]
        jobs.append((case, base))
        jobs += [(case, with_values(base, {name: _moved(name, value(base, name))})) for name in _simulated(parameters[case.profile])]
    outcomes = evaluate([case for case, _ in jobs], overheads=[o for _, o in jobs], cache=cache, progress=progress)
    found: list[Response] = []
    place = 0
    for case in cases:
        names = _simulated(parameters[case.profile])
        here, moved = outcomes[place], outcomes[place + 1 : place + 1 + len(names)]
        place += 1 + len(names)
        if here.skip or any(o.skip for o in moved):
            continue
        values = {name: value(at[case.profile], name) for name in parameters[case.profile]}
        for metric in LEARNED_METRICS:
            if case.measured.get(metric) and metric in here.predicted:
                seconds = _time(metric, here.predicted[metric])
                slopes = {
                    name: (_time(metric, o.predicted[metric]) - seconds) / (_moved(name, values[name]) - values[name])
                    for name, o in zip(names, moved, strict=True)
                }
                slopes |= {name: _derived(name, case, metric, slopes) for name in parameters[case.profile] if name not in slopes}
                found.append(Response(case, metric, _time(metric, case.measured[metric]), seconds, values, slopes))
    return found


def _simulated(parameters: Sequence[str]) -> list[str]:
    """The parameters whose slopes need a simulation of their own."""
    return [name for name in parameters if name not in _DERIVED]


_DERIVED = frozenset({"request_delay_s", "request_per_prompt_token_s", "request_per_output_token_s", "first_request_s"})


def _derived(name: str, case: Case, metric: str, slopes: Mapping[str, float]) -> float:
    """A slope that follows from another: the work of a prompt's tokens is work of its request; that of an answer's tokens is too, where
    there is a backlog (a burst), and only what waits behind it waits; a delay is a delay; and the first of each client's requests are so
    many of all."""
    if name == "first_request_s":
        load, first = case.load, metric in ("ttft_mean", "e2e_mean")
        return min(1.0, load.concurrency / load.requests) if first and load.kind == "closed" else 0.0
    delay = {"ttft_mean": 1.0, "e2e_mean": 1.0, "latency_sum": float(case.load.requests)}.get(metric, 0.0)
    if name == "request_delay_s":
        return delay
    a_second = slopes["request_s"]
    if name == "request_per_prompt_token_s":
        return case.load.prompt.mean * a_second
    return case.load.output.mean * max(0.0, a_second - delay) if case.load.kind == "burst" else 0.0


def _time(metric: str, measured: float) -> float:
    return 1.0 / measured if metric in _RATES else measured


def _moved(name: str, seconds: float) -> float:
    """A neighbouring value: far enough that a batch which forms differently does not decide the slope, and inside the range."""
    allowed = physical.RANGES[name]
    step = max(0.5 * seconds, 0.5 * allowed.typical_s)
    return seconds + step if seconds + step <= allowed.largest_s else seconds - 0.5 * seconds
