"""`Belief`: what a run says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Label = Literal["measured", "fitted", "extrapolated", "estimate"]

LABELS: tuple[Label, ...] = get_args(Label)
"""From the most to the least believable."""

LEVEL = 0.8
"""Of the intervals: so many of the runs that were measured lie inside."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Belief:
    """How far to believe a run.

    label      measured: runs of this engine, device and model are in the record. fitted: kernels of the device were measured, the engine
               was learned on other models. extrapolated: beyond the measured tables or lengths; `reasons` say where and by how far.
               estimate: operators that nothing measured, or an engine that did not hold on runs kept from it
    reasons    why, a sentence each
    intervals  figure ("ttft.p99", "throughput.output_tokens") -> (low, high) in the unit of the figure
    relative   the same over the predicted value
    kinds      figure -> the kind of figures that err alike, and by how many per cent it moves when steps take one per cent longer
    load       of the run, as a fraction of what the instances could serve; None where clients wait for answers, or requests come at once
    waiting    what the load means for waiting, in a sentence; "" while it does not decide
    steps      standard deviation of ln(true / predicted) of a step that its kernels' errors do not explain
    """

    label: Label
    reasons: tuple[str, ...] = ()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    relative: Mapping[str, Interval] = field(default_factory=dict)
    kinds: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    load: float | None = None
    waiting: str = ""
    steps: float = 0.0

    @property
    def line(self) -> str:
        """In one line: the label and its first reason, and what the load does to waiting."""
        words = f"{self.label}, {self.reasons[0]}" if self.reasons else self.label
        return f"{words}; {self.waiting}" if self.waiting else words

    def as_dict(self) -> dict[str, Any]:
        """As summary.json has it, in JSON types."""
        return {
            "label": self.label,
            "reasons": list(self.reasons),
            "line": self.line,
            "level": LEVEL,
            "load": self.load,
            "waiting": self.waiting,
            "steps": self.steps,
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "relative": {name: list(ends) for name, ends in self.relative.items()},
            "kinds": {name: list(kind) for name, kind in self.kinds.items()},
        }


def of_run(run: Any) -> Belief | None:
    """Of a `Result`, or of a summary as summary.json has it; None where the run was made without (a study's)."""
    found: Belief | None = from_summary(run) if isinstance(run, Mapping) else run.uncertainty
    return found


def from_summary(summary: Mapping[str, Any]) -> Belief | None:
    """The belief that a summary holds under `uncertainty`; None where the run was made without."""
    found = summary.get("uncertainty")
    if not found:
        return None
    intervals, relative = ({name: (ends[0], ends[1]) for name, ends in found[key].items()} for key in ("intervals", "relative"))
    kinds = {name: (str(kind), float(reacts)) for name, (kind, reacts) in found["kinds"].items()}
    return Belief(found["label"], tuple(found["reasons"]), intervals, relative, kinds, found["load"], found["waiting"], found["steps"])


def relative_interval(belief: Belief, figure: str) -> Interval | None:
    """(low, high) of a figure over its predicted value; None where there is none (attainment, counts, what is not defined)."""
    return belief.relative.get(figure)
