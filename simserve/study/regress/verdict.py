"""Has a figure become worse? Paired differences over seeds against an allowed band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from simserve.study.regress.suite import Kpi
from simserve.study.statistics import mean_interval

Verdict = Literal["fail", "unclear", "pass", "better"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of one case. change, low, high: mean and confidence interval of the difference to the baseline, as a fraction of it or,
    for absolute tolerances, in the figure's unit; None where they are not defined."""

    case: str
    kpi: Kpi
    before: float | None
    now: float | None
    change: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    note: str = ""


def judge(case: str, kpi: Kpi, before: Sequence[float | None], now: Sequence[float | None], strict: bool) -> Row:
    """Compares runs with equal seeds: relative changes by the mean of the logarithms of the ratios.

    The band reaches from the baseline to the tolerance in the worse direction. fail: the 95 % confidence interval of the mean paired
    difference lies wholly beyond the band. unclear: it reaches beyond it (a fail when `strict`). better: it lies wholly beyond the same
    distance on the good side.
    """
    old = [value for value in before if value is not None]
    new = [value for value in now if value is not None]
    if not old and not new:
        return Row(case, kpi, None, None, None, None, None, "pass", "not defined, before and now")
    if len(old) < len(before) or len(new) < len(now):
        side = "now" if len(new) < len(now) else "in the baseline"
        verdict: Verdict = "pass" if [v is None for v in before] == [v is None for v in now] else "fail"
        return Row(case, kpi, _mean(old), _mean(new), None, None, None, verdict, f"not defined for some seeds {side}")
    scale = _mean(old) if kpi.relative else 1.0
    assert scale is not None
    differences = [after - earlier for earlier, after in zip(old, new, strict=True)]
    if scale == 0 and any(differences):
        # A fraction of nothing allows nothing.
        worse = sum(differences) * (-1 if kpi.worse == "lower" else 1) > 0 or kpi.worse == "any"
        note = "the baseline is 0: a relative tolerance allows no change, state an absolute one"
        return Row(case, kpi, 0.0, _mean(new), None, None, None, "fail" if worse else "better", note)
    if kpi.relative and min(*old, *new) > 0:
        # Ratios spread far less over seeds than differences do: what doubles one seed's tail doubles the other's.
        mean, low, high = (_expm1(x) for x in mean_interval([math.log(after / earlier) for earlier, after in zip(old, new, strict=True)]))
    else:
        mean, low, high = mean_interval([value / abs(scale) if scale else 0.0 for value in differences])
    if len(differences) == 1:
        low = high = mean  # one seed: nothing is known of chance, the difference itself decides
    return Row(case, kpi, _mean(old), _mean(new), mean, low, high, _verdict(kpi, low, high, strict))


def _verdict(kpi: Kpi, low: float, high: float, strict: bool) -> Verdict:
    band = kpi.tolerance
    if kpi.worse == "lower":
        low, high = -high, -low  # from here on up is worse
    outside = low > band or (kpi.worse == "any" and high < -band)
    reaches = high > band or (kpi.worse == "any" and low < -band)
    if outside:
        return "fail"
    if reaches:
        return "fail" if strict else "unclear"
    return "better" if high < -band else "pass"


def _expm1(log_ratio: float) -> float:
    """A log ratio as a relative change; infinite for one that no float holds."""
    return math.inf if log_ratio > 700 else math.expm1(log_ratio)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
