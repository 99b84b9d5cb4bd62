"""Learns an engine's overheads from measured runs: a handful of seconds with a physical meaning, by least squares on simulated runs.

Residuals are log(predicted / measured) of the mean metrics, so a factor counts the same whatever the metric. Each run weighs the same
however many rows it has. Nothing else is fitted: kernels, scheduler and memory rules stay what they are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.config.engine_profile import load_engine
from simserve.errors import ConfigError, SimserveError
from simserve.validation.case import Case
from simserve.validation.identify import doubts, identified, refusal
from simserve.validation.machine import Overheads, overheads_of
from simserve.validation.overhead_values import value, with_values
from simserve.validation.predict import predict
from simserve.validation.sound import unsound

F64 = NDArray[np.float64]

FITTED_METRICS = (
    "ttft_mean",
    "tpot_mean",
    "e2e_mean",
    "makespan",
    "output_tokens_per_s",
    "latency_sum",
    "prompt_phase",
    "decode_step",
)

SCALE_S = {
    "per_step_s": 1e-3,
    "per_decode_request_s": 1e-5,
    "per_prefill_token_s": 1e-6,
    "kernel_launch_s": 1e-6,
    "request_s": 1e-2,
    "request_per_prompt_token_s": 1e-6,
}
"""The parameters that may be fitted, with the size of one unit of the solver."""

DEFAULT_PARAMETERS = ("per_step_s", "per_decode_request_s", "per_prefill_token_s", "request_s", "request_per_prompt_token_s")

_LARGEST = {"per_step_s": 0.06, "per_decode_request_s": 5e-4, "per_prefill_token_s": 1e-4, "kernel_launch_s": 1e-4, "request_s": 1.0}
_LEAST = {"kernel_launch_s": 0.5}
"""Where the search begins at least, as a fraction of the largest value: the launches only show once they take longer than the kernels."""

_STEP = 0.3
"""Finite-difference step in solver units: coarse, because simulated means move in small jumps when a batch forms differently."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """Learned overheads, and the error on the cases they were learned from before and after (median of absolute errors, percent).

    kept      parameters that the runs cannot identify, which keep the profile's value, with the reason
    refusal   why the values are no overheads of an engine; '' when they may be
    doubts    what to know before using them
    """

    overheads: Overheads
    values: dict[str, float]
    rows: int
    runs: int
    before_percent: dict[str, float]
    after_percent: dict[str, float]
    skipped: dict[str, int]
    kept: dict[str, str] = field(default_factory=dict)
    refusal: str = ""
    doubts: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """All but the overheads' own form, for JSON; a median of nothing is null."""

        def known(errors: dict[str, float]) -> dict[str, float | None]:
            return {metric: None if math.isnan(error) else error for metric, error in errors.items()}

        return {
            "overheads_s": self.values,
            "rows": self.rows,
            "runs": self.runs,
            "median_error_percent": {"before": known(self.before_percent), "after": known(self.after_percent)},
            "kept": self.kept,
            "left_out": self.skipped,
            "refusal": self.refusal or None,
            "notes": list(self.doubts),
        }


def fit_overheads(
    cases: Sequence[Case],
    *,
    parameters: Sequence[str] = DEFAULT_PARAMETERS,
    most_cases: int = 60,
    only_identified: bool = False,
    progress: Callable[[str], None] | None = None,
) -> FitResult:
    """Fits the overheads of one engine profile to its measured cases.

    only_identified  fit only what these runs can tell apart, and keep the rest of the profile's values (see `identify`)

    Cases that cannot be simulated are left out and counted. Raises ConfigError when none is left, when the cases are of several engine
    profiles, or for a parameter that is not one of `SCALE_S`.
    """
    from scipy.optimize import least_squares

    for name in parameters:
        if name not in SCALE_S:
            raise ConfigError(f"'{name}' is not an overhead that can be fitted; allowed: {', '.join(SCALE_S)}")
    profiles = {case.profile for case in cases if not case.skip}
    if len(profiles) > 1:
        raise ConfigError(f"overheads belong to one engine: these runs are of {', '.join(sorted(profiles))}")
    chosen, skipped = _usable(cases, most_cases)
    if not chosen:
        raise ConfigError(f"nothing to fit: none of the {len(cases)} runs can be simulated ({_listed(skipped)})")
    start = overheads_of(load_engine(chosen[0].profile))
    kept: dict[str, str] = {}
    if only_identified:
        parameters, kept = _identified(chosen, start, parameters, progress)
    scale = np.array([SCALE_S[name] for name in parameters])
    upper = np.array([_LARGEST.get(name, 1e-4) for name in parameters]) / scale
    weights = _weights(chosen)

    def residuals(units: F64) -> F64:
        found = _residuals(chosen, _with_array(start, parameters, units * scale), weights)
        if progress:
            progress(
                f"residual {float(np.sqrt(np.mean(found**2))):.4f} at "
                + ", ".join(f"{n} {u * s:.3g}" for n, u, s in zip(parameters, units, scale, strict=True))
            )
        return found

    first = np.clip(
        np.array([value(start, name) for name in parameters]) / scale, [_LEAST.get(n, 0.02) for n in parameters] * upper, 0.9 * upper
    )
    solution = least_squares(
        residuals,
        first,
        bounds=(np.zeros(len(first)), upper),
        loss="soft_l1",
        f_scale=0.1,
        diff_step=_STEP,
        x_scale=np.maximum(first, 0.5),
        max_nfev=6,
        ftol=2e-3,
        xtol=5e-3,
    )
    best = _with_array(start, parameters, solution.x * scale)
    values = {name: float(value) for name, value in zip(parameters, solution.x * scale, strict=True)}
    rows, runs = sum(case.rows for case in chosen), len({case.run for case in chosen})
    before, after = _medians(chosen, start), _medians(chosen, best)
    return FitResult(
        overheads=best,
        values=values,
        rows=rows,
        runs=runs,
        before_percent=before,
        after_percent=after,
        skipped=dict(skipped),
        kept=kept,
        refusal=refusal(values, {name: _LARGEST.get(name, 1e-4) for name in values}, after),
        doubts=tuple(doubts(values, before, after, runs, rows, sum(skipped.values()))),
    )


def _identified(
    cases: Sequence[Case], start: Overheads, parameters: Sequence[str], progress: Callable[[str], None] | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Raises ConfigError when the runs identify none of the parameters."""
    if progress:
        progress(f"asking {len(cases)} runs which of {len(parameters)} overheads they can tell apart")
    upper = np.array([_LARGEST.get(name, 1e-4) for name in parameters])
    first = np.clip(np.array([value(start, name) for name in parameters]), [_LEAST.get(n, 0.02) for n in parameters] * upper, 0.9 * upper)
    ones = [1.0] * len(cases)
    found = identified(parameters, first, upper, lambda values: _residuals(cases, _with_array(start, parameters, values), ones))
    if not found.fitted:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in found.kept.items())
        raise ConfigError(f"nothing can be learned from these runs ({reasons})")
    return found.fitted, found.kept


def _usable(cases: Sequence[Case], most: int) -> tuple[list[Case], Counter[str]]:
    """At most `most` cases that can be simulated, spread over the runs and over each run's rows."""
    usable: list[tuple[int, Case]] = []
    skipped = Counter[str]()
    for i, case in _spread(cases):
        skip = case.skip or unsound(case)
        if skip or not any(metric in case.measured for metric in FITTED_METRICS):
            skipped[skip or "no mean was measured"] += case.rows
        elif len(usable) < most:
            try:
                predict(case)
            except SimserveError as problem:
                skipped[str(problem).split(";")[0]] += case.rows
                continue
            usable.append((i, case))
    return [case for _, case in sorted(usable, key=lambda pair: pair[0])], skipped


def _spread(cases: Sequence[Case]) -> list[tuple[int, Case]]:
    """All cases with their place, in an order of which every beginning covers the runs, and each run's rows, evenly."""
    place: Counter[str] = Counter()
    size = Counter(case.run for case in cases)
    ranked = []
    for i, case in enumerate(cases):
        ranked.append((((place[case.run] * 0.618034) % 1.0) * math.sqrt(size[case.run]), i, case))
        place[case.run] += 1
    return [(i, case) for _, i, case in sorted(ranked, key=lambda r: r[:2])]


def _weights(cases: Sequence[Case]) -> list[float]:
    size = Counter(case.run for case in cases)
    return [1.0 / math.sqrt(size[case.run]) for case in cases]


def _residuals(cases: Sequence[Case], overheads: Overheads, weights: Sequence[float]) -> F64:
    found = []
    for case, weight in zip(cases, weights, strict=True):
        predicted = predict(case, overheads)
        for metric in FITTED_METRICS:
            if case.measured.get(metric) and metric in predicted:
                found.append(weight * float(np.clip(math.log(predicted[metric] / case.measured[metric]), -2.0, 2.0)))
    return np.array(found)


def _medians(cases: Sequence[Case], overheads: Overheads) -> dict[str, float]:
    errors: dict[str, list[float]] = {}
    for case in cases:
        predicted = predict(case, overheads)
        for metric in FITTED_METRICS:
            if case.measured.get(metric) and metric in predicted:
                errors.setdefault(metric, []).append(100.0 * abs(predicted[metric] / case.measured[metric] - 1.0))
    return {metric: float(np.median(values)) for metric, values in errors.items()}


def _with_array(overheads: Overheads, parameters: Sequence[str], values: F64) -> Overheads:
    return with_values(overheads, dict(zip(parameters, values, strict=True)))


def _listed(skipped: Counter[str]) -> str:
    return "; ".join(f"{count} rows: {reason}" for reason, count in skipped.most_common(3))
