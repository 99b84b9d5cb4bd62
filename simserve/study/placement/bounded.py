"""What no run of a placement can hold, by the bounds of plans: such loads are answered without a run.

Demands grow in proportion to the load and arrivals draw together in proportion, so the bounds of one load tell those of all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from simserve.config.experiment import Experiment
from simserve.study.limits import Limit, broken_at_best, limits
from simserve.study.placement.placement import Placement, Pool
from simserve.study.plan.bounds import Bounds, bounds
from simserve.study.plan.offered import Offered, offered
from simserve.study.predicate import Predicate


class Refusal(NamedTuple):
    """Why a load cannot hold; `at_any`: no other load can either."""

    why: str
    at_any: bool


@dataclass(frozen=True)
class BoundedPlacement:
    """The bounds of a placement's instances at a load (`rate` of the whole placement); 0 = the load is no rate that they follow."""

    known: Bounds
    placement: Placement
    limits: tuple[Limit, ...]
    predicate: Predicate
    rate: float

    def refuses(self, rate: float) -> Refusal | None:
        """Why no run of the whole placement at this load holds; None where one may."""
        if broken := broken_at_best(self.limits, self.known.best):
            return Refusal(broken, True)
        if not self.rate:
            return None
        times = rate / self.rate
        prompts = tuple(replace(one, arrival_s=one.arrival_s / times) for one in self.known.prompts)
        known = replace(self.known, demand=tuple(times * demand for demand in self.known.demand), prompts=prompts)
        counts = tuple(pool.count for pool in self.placement.pools)
        if why := known.overloaded(counts, tuple(pool.role for pool in self.placement.pools)):
            return Refusal(why, False)
        late = broken_at_best(self.limits, known.best_in_bursts(counts, self.predicate.quantities), "however its bursts are served")
        return Refusal(late, False) if late else None


class PlacementBounds:
    """Of the placements of one search. `at` gives the experiment placed so at the load `rate`, a rate or (`rate` = 0) none that demands
    follow."""

    def __init__(self, at: Callable[[Placement], Experiment], predicate: Predicate, rate: float) -> None:
        self._at = at
        self._predicate = predicate
        self._rate = rate
        self._load: Offered | None = None
        self._known: dict[tuple[Pool, ...], Bounds] = {}

    def of(self, placement: Placement) -> BoundedPlacement:
        """Bounds are of the makes of instances, so placements that differ in their numbers share them."""
        shapes = tuple(replace(pool, count=1) for pool in placement.pools)
        if shapes not in self._known:
            self._known[shapes] = self._bounds(Placement(shapes))
        return BoundedPlacement(self._known[shapes], placement, limits(self._predicate), self._predicate, self._rate)

    def _bounds(self, one_each: Placement) -> Bounds:
        experiment = self._at(one_each)
        if self._load is None:
            self._load = offered(experiment)
        return bounds(experiment, self._load, self._predicate.quantities, (self._load,))
