"""Which overheads a set of runs can tell apart, and what to think of the overheads that were learned from it.

A parameter is identified when changing it changes the predictions, and in a way that no combination of parameters taken before it can
imitate. Prompts of one length, for example, cannot tell seconds per request from seconds per prompt token; runs of two clients say nothing
of seconds per decoding request. What is not identified keeps the value of the engine profile, and is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

ORDER = (
    "per_step_s",
    "request_s",
    "per_decode_request_s",
    "per_prefill_token_s",
    "request_per_prompt_token_s",
    "kernel_launch_s",
)
"""Who is asked first: what every engine has before what only shows under load."""

VISIBLE = 0.01
"""Root mean square change of log(predicted) over half of the allowed range below which the runs do not depend on a parameter."""

DISTINCT = 0.15
"""Fraction of a parameter's effect that others must not imitate; 0 = the same effect, 1 = orthogonal."""

FAR_OFF_PERCENT, OFF_PERCENT = 50.0, 25.0
"""Median error after the fit: above the first it explains nothing, above the second it is told."""

FEW_RUNS = 3
_AT_BOUND = 0.97


class Identified(NamedTuple):
    """The parameters to fit, and for the others why they are not."""

    fitted: tuple[str, ...]
    kept: dict[str, str]


def identified(names: Sequence[str], first: F64, upper: F64, residuals: Callable[[F64], F64]) -> Identified:
    """Asks the predictions, at the start of the fit, what depends on what.

    first, upper  the start and the largest value of each parameter; the smallest is 0
    residuals     log(predicted / measured) of every measured mean, at values of the parameters
    """
    base = residuals(first)
    taken: list[str] = []
    basis: list[F64] = []
    kept: dict[str, str] = {}
    for name in sorted(names, key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER)):
        i = list(names).index(name)
        moved = first.copy()
        moved[i] = upper[i] / 2.0 if first[i] < upper[i] / 4.0 else first[i] / 2.0
        if _rms(residuals(moved) - base) < VISIBLE:
            kept[name] = "the runs do not depend on it"
            continue
        near = first.copy()
        near[i] = first[i] + max(0.3 * first[i], 0.02 * upper[i])
        effect = residuals(near) - base
        rest = effect - sum((b * float(b @ effect) for b in basis), np.zeros_like(effect))
        size, left = float(np.linalg.norm(effect)), float(np.linalg.norm(rest))
        if len(taken) >= len(base) or size == 0.0 or left < DISTINCT * size:
            kept[name] = f"the runs cannot tell it from {_alike(effect, basis, taken)}" if taken else "the runs do not depend on it"
            continue
        taken.append(name)
        basis.append(rest / left)
    return Identified(tuple(n for n in names if n in taken), kept)


def _alike(effect: F64, basis: Sequence[F64], taken: Sequence[str]) -> str:
    parts = sorted(zip((abs(float(b @ effect)) for b in basis), taken, strict=True), reverse=True)
    most = parts[0][0]
    return " and ".join(name for part, name in parts if part >= 0.3 * most)


def refusal(values: Mapping[str, float], largest: Mapping[str, float], after_percent: Mapping[str, float]) -> str:
    """Why learned overheads are no overheads of an engine; '' when they may be."""
    for name, value in values.items():
        if value >= _AT_BOUND * largest[name]:
            return f"{name} ends at the largest value that is believed, {largest[name]:g} s"
    worst = max(after_percent, key=lambda metric: after_percent[metric], default="")
    if worst and after_percent[worst] > FAR_OFF_PERCENT:
        return f"the overheads do not explain the runs: median error of {worst} {after_percent[worst]:.0f} % after the fit"
    return ""


def doubts(
    values: Mapping[str, float], before: Mapping[str, float], after: Mapping[str, float], runs: int, rows: int, skipped_rows: int
) -> list[str]:
    """What to know about learned overheads before they are used."""
    found = []
    if runs < FEW_RUNS:
        found.append(f"learned from {runs} run{'s' if runs > 1 else ''}; a sweep over several loads says more")
    if skipped_rows > rows:
        found.append(f"{skipped_rows} of {skipped_rows + rows} rows were left out")
    for metric, error in after.items():
        if error > OFF_PERCENT:
            found.append(f"median error of {metric} is {error:.0f} % after the fit")
    if values.get("per_step_s", 1.0) < 1e-6:
        found.append("per_step_s ends at 0: steps are slower in the simulation than measured, whatever the host does")
    if after and all(after[metric] >= before.get(metric, 0.0) for metric in after):
        found.append("no error is smaller than with the overheads of the profile")
    found.append("errors are in sample: no run was kept to judge by")
    return found


def _rms(values: F64) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0
