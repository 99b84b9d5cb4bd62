"""How far to believe a finalist: the label and the intervals that a run says of itself."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from simserve.config.experiment import Experiment
from simserve.errors import SimserveError


class Believed(NamedTuple):
    """label and reason as of `simserve.uncertainty`; relative: quantity ("ttft.p99") -> (low, high) over the predicted value."""

    label: str = ""
    reason: str = ""
    relative: dict[str, tuple[float, float]] = {}  # noqa: RUF012  # a constant


def believed(experiment: Experiment) -> Believed:
    """Of one run of an experiment; without a label where runs say nothing of themselves."""
    try:
        uncertainty: Any = importlib.import_module("simserve.uncertainty")
    except ImportError:
        return Believed()
    from simserve import simulation

    try:
        run: Any = simulation.simulated
        belief = uncertainty.of_run(run(experiment, believe=True))
    except SimserveError:
        return Believed()
    return Believed() if belief is None else Believed(belief.label, belief.line, dict(belief.relative))
