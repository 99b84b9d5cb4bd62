"""Whether two runs differ by more than what does not cancel between them.

Runs of one model on one device under one engine are off by much the same factor, so their ratio is surer than either: what remains was
learned from pairs of measured runs (`cancelling`), which differ in load, lengths and layout, not in policies. Where
nothing is shared, errors are taken as independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from simserve.uncertainty import residuals
from simserve.uncertainty.belief import Belief, from_summary
from simserve.uncertainty.cancelling import ALL_THREE, MODEL_AND_DEVICE
from simserve.uncertainty.kinds import TAIL


class Apart(NamedTuple):
    """Of a figure of two runs: ln of their ratio, the half-width of its 80 % interval, and what they share ("" = nothing)."""

    log_ratio: float
    half: float
    shared: str

    @property
    def told(self) -> bool:
        """Whether the difference is larger than the error that does not cancel."""
        return abs(self.log_ratio) > self.half


def apart(a: Mapping[str, Any], b: Mapping[str, Any], figure: str) -> Apart | None:
    """Of two summaries; None where one of them has no interval of the figure."""
    one, other = from_summary(a), from_summary(b)
    if one is None or other is None or figure not in one.intervals or figure not in other.intervals:
        return None
    ratio = math.log(_predicted(other, figure) / _predicted(one, figure))
    halves = [math.log(belief.relative[figure][1] / belief.relative[figure][0]) / 2.0 for belief in (one, other)]
    shared, kind = shared_by(a, b), one.kinds[figure][0]
    known = residuals.load().differences if shared and kind == other.kinds[figure][0] else {}
    found = known.get((kind, shared)) or known.get((kind.removesuffix(TAIL), shared))
    if found is None:
        return Apart(ratio, math.hypot(*halves), "")
    # Where a figure reacts strongly to its steps, so does what does not cancel.
    return Apart(ratio, max(one.kinds[figure][1], other.kinds[figure][1], 1.0) * found.half(ratio), shared)


def shared_by(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """`ALL_THREE`, `MODEL_AND_DEVICE` or "": what all instances of two runs have in common."""
    settings = [{_setting(group["cost"]) for group in summary["simulated"]} for summary in (a, b)]
    if settings[0] == settings[1]:
        return ALL_THREE
    without = [{setting[:2] for setting in of_run} for of_run in settings]
    return MODEL_AND_DEVICE if without[0] == without[1] else ""


def _setting(cost: Mapping[str, Any]) -> tuple[str, str, str]:
    profile = cost.get("engine_profile") or {}
    return str(cost.get("model")), str(cost.get("hardware")), str(profile.get("name"))


def _predicted(belief: Belief, figure: str) -> float:
    """The value that the interval is around."""
    return belief.intervals[figure][0] / belief.relative[figure][0]
