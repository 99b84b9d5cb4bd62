"""The figures of a capacity search: every run, what each seed's search ended with, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from simserve.study.believed_load import LoadBelief
from simserve.study.predicate import Predicate
from simserve.study.search import Outcome
from simserve.study.statistics import mean_interval


class Probe(NamedTuple):
    """One run at one rate. It holds when the predicate does and the queue does not grow; `reasons` say why it does not."""

    seed: int
    rate: float
    holds: bool
    stable: bool
    reasons: tuple[str, ...]
    values: dict[str, float | None]


class Replicate(NamedTuple):
    """The search of one seed: the highest rate that held (`low`) and the lowest that did not (`high`), as far as there are any."""

    seed: int
    outcome: Outcome
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CapacityFigures:
    """What was seen, and what follows from it. `rate` is None where there is none: see `outcome`."""

    name: str
    predicate: Predicate
    rate_key: str
    tolerance: float
    replicates: tuple[Replicate, ...]
    probes: tuple[Probe, ...]
    search_notes: tuple[str, ...] = ()
    belief: LoadBelief | None = None

    @property
    def outcome(self) -> Outcome:
        """found; never or always when that is what any of the searches ended with."""
        for outcome in ("never", "always"):
            if any(replicate.outcome == outcome for replicate in self.replicates):
                return outcome
        return "found"

    @property
    def rate(self) -> float | None:
        """The capacity: the mean over the seeds of the highest rate that held. None unless every search found one."""
        return self._interval()[0] if self.outcome == "found" else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Confidence interval (95 %) of the mean over seeds; None with one seed, or without an answer."""
        if self.outcome != "found" or len(self.replicates) == 1:
            return None
        return self._interval()[1:]

    @property
    def edge(self) -> Probe | None:
        """The lowest load at which a search ended because it failed there; None when none did."""
        edges = self._edges()
        return min(edges, key=lambda probe: probe.rate) if edges else None

    @property
    def limit(self) -> str:
        """What fails there, in words; empty when nothing does."""
        edge = self.edge
        return "" if edge is None else "; ".join(edge.reasons)

    @property
    def saturates(self) -> bool:
        """Whether the queue, not the predicate, is what ends the range, for every seed."""
        edges = self._edges()
        return bool(edges) and all(self.predicate.holds(probe.values) for probe in edges)

    @property
    def resolution(self) -> float | None:
        """How far above the load that held the one that failed is, as a fraction of it: at most `tolerance`, or the next whole number."""
        gaps = [(r.high - r.low) / r.low for r in self.replicates if r.low and r.high is not None]
        return max(gaps) if self.outcome == "found" and gaps else None

    @property
    def requests_per_s(self) -> float | None:
        """Requests that arrive per second at the capacity, the mean over the seeds: what a scale of a trace's rate comes to."""
        rates = [probe.values.get("arrivals_per_s") for r in self.replicates for probe in self._at(r.seed, r.low)]
        known = [rate for rate in rates if rate is not None]
        return sum(known) / len(known) if known and self.outcome == "found" else None

    def _interval(self) -> tuple[float, float, float]:
        return mean_interval([replicate.low or math.nan for replicate in self.replicates])

    def _edges(self) -> list[Probe]:
        return [probe for r in self.replicates for probe in self._at(r.seed, r.high)]

    def _at(self, seed: int, rate: float | None) -> list[Probe]:
        return [probe for probe in self.probes if probe.seed == seed and probe.rate == rate][:1]
