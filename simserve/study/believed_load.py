"""How far to believe the load that a search found: one more run at it, and what slower steps would make of the answer.

Where times follow steps, a load r with steps f times as long is a load f r with times f times as short. A figure that moves A per cent with a
per cent of step time therefore moves A - 1 per cent with a per cent of load, and the load at which it meets its limit moves by
-A / (A - 1) per cent with a per cent of step time; where the queue is what ends the range, by -1 (capacity is work over time).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from simserve.config.experiment import Experiment
from simserve.study.predicate import Predicate
from simserve.uncertainty.belief import Belief, Label

STEEPEST = 3.0
"""Per cent of load for a per cent of step time at most: A = 1.5. Figures that hardly depend on the load do not say where it ends."""


@dataclass(frozen=True, slots=True)
class LoadBelief:
    """Of an answer: the label and the reasons of the run at it, and the 80 % interval of the load over the load that was found, None where
    the load is a number of clients."""

    label: Label
    reasons: tuple[str, ...]
    relative: tuple[float, float] | None

    def line(self, rate: float, unit: str) -> str:
        """In one line."""
        words = f"How far to believe it: {self.label}, {self.reasons[0]}"
        if self.relative is None:
            return words
        low, high = (rate * end for end in self.relative)
        return f"{words}; 80 % interval {low:.4g} to {high:.4g} {unit}"

    def as_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self) | {"reasons": list(self.reasons), "relative": None if self.relative is None else list(self.relative)}

    @staticmethod
    def read(found: Mapping[str, Any] | None) -> LoadBelief | None:
        """From what `as_dict` made."""
        if found is None:
            return None
        ends = found["relative"]
        return LoadBelief(found["label"], tuple(found["reasons"]), None if ends is None else (float(ends[0]), float(ends[1])))


def believed_load(experiment: Experiment, predicate: Predicate, saturates: bool) -> LoadBelief | None:
    """Of the load of this experiment, at which the predicate was seen to hold; `saturates`: only the queue ends the range."""
    from simserve.simulation import simulated

    belief = simulated(experiment, believe=True).uncertainty
    if belief is None:
        return None
    if belief.load is None:
        return LoadBelief(belief.label, belief.reasons, None)
    figures = [] if saturates else [f"{quantity.name}.{quantity.stat}" for quantity in predicate.quantities]
    half = half_width(belief, figures)
    return LoadBelief(belief.label, belief.reasons, None if half is None else (math.exp(-half), math.exp(half)))


def half_width(belief: Belief, figures: Sequence[str]) -> float | None:
    """Of ln(load): the widest of those of the figures that are tested, any of which may be what ends the range; where none of them has an
    interval, that of a step. None where nothing was learned."""
    halves = []
    for figure in figures:
        if figure in belief.relative:
            _, reacts = belief.kinds[figure]
            step = math.log(belief.relative[figure][1]) / reacts
            halves.append(step * (min(reacts / (reacts - 1.0), STEEPEST) if reacts > 1.0 else STEEPEST))
    if halves:
        return max(halves)
    if "tpot.mean" not in belief.relative:
        return None
    return math.log(belief.relative["tpot.mean"][1]) / belief.kinds["tpot.mean"][1]
