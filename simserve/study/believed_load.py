"""How far to believe the load that a search found: one more run at it, and what slower steps would make of the answer.

Where times follow steps, a load r with steps f times as long is a load f r with times f times as short. A figure that moves A per cent with
a per cent of step time therefore moves A - 1 per cent with a per cent of load, and the load at which it meets its limit moves by
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
    return LoadBelief(belief.label, belief.reasons, relative_load(belief, figures))


def relative_load(belief: Belief, figures: Sequence[str]) -> tuple[float, float] | None:
    """(low, high) of the load over the one that was found: the widest of those of the figures that are tested, any of which may be what
    ends the range; where none of them has an interval, that of a step. None where nothing was learned."""
    tested = [figure for figure in figures if belief.relative.get(figure) and belief.kinds[figure][1] > 0]
    slopes = {figure: _slope(belief.kinds[figure][1]) for figure in tested} or {"tpot.mean": 1.0}
    ends = []
    for figure, slope in slopes.items():
        if figure in belief.relative:
            low, high = (slope * math.log(end) / belief.kinds[figure][1] for end in belief.relative[figure])
            ends.append((math.exp(-high), math.exp(-low)))
    return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None


def _slope(reacts: float) -> float:
    return min(reacts / (reacts - 1.0), STEEPEST) if reacts > 1.0 else STEEPEST
