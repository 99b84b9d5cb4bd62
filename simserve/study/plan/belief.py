"""How far to believe a finalist: the label and the intervals that a run says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simserve.config.experiment import Experiment
from simserve.errors import SimserveError
from simserve.uncertainty.belief import Belief, Interval, of_run


@dataclass(frozen=True, slots=True)
class Believed:
    """label and reason as of `simserve.uncertainty`; relative: quantity ("ttft.p99") -> (low, high) over the predicted value."""

    label: str = ""
    reason: str = ""
    relative: Mapping[str, Interval] = field(default_factory=dict)


def believed(experiment: Experiment) -> Believed:
    """Of one run of an experiment; without a label where the run cannot be made, or says nothing of itself."""
    from simserve.simulation import simulated

    try:
        return from_belief(of_run(simulated(experiment, believe=True)))
    except SimserveError:
        return Believed()


def from_belief(belief: Belief | None) -> Believed:
    """What a run said of itself; without a label where it said nothing."""
    return Believed() if belief is None else Believed(belief.label, belief.line, belief.relative)
