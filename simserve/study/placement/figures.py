"""The figures of a placement search: what was seen of each placement, and how they stand to each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from simserve.study.believed_load import LoadBelief
from simserve.study.cache import Row
from simserve.study.placement.placement import Placement
from simserve.study.predicate import Predicate


class Tried(NamedTuple):
    """One placement: the highest rate per device that held (`low`), the lowest that did not (`high`), as far as there are any.

    dropped  another placement of the kind was seen to hold at `high`, so the search went no further
    limit    why it fails at `high`
    error    instead, where it cannot be run at all (the model does not fit)
    values   the figures of the run at `low`
    saturates  whether at `high` only the queue grew, the predicate still holding
    bounded  loads that bounds refused, so that they needed no run; `probes` are runs
    """

    placement: Placement
    low: float | None
    high: float | None
    dropped: bool
    probes: int
    limit: str
    error: str | None
    values: Row
    saturates: bool = False
    bounded: int = 0


def told_apart(best: Tried, other: Tried) -> bool:
    """Whether `other` was seen to fail at a rate per device at which `best` holds."""
    return best.low is not None and other.high is not None and other.high <= best.low


@dataclass(frozen=True)
class PlacementFigures:
    """Every placement that was tried, and which of them is the best: None when the predicate holds nowhere."""

    name: str
    predicate: Predicate
    rate_key: str
    tolerance: float
    affinity: str
    tried: tuple[Tried, ...]
    search_notes: tuple[str, ...] = ()
    belief: LoadBelief | None = None

    @property
    def ranked(self) -> list[Tried]:
        """From the best to the worst: by the rate that holds, then the rate that does not, then fewer devices."""
        return sorted(self.tried, key=lambda t: (-(t.low or 0.0), -(t.high or math.inf), t.placement.devices))

    @property
    def best(self) -> Tried | None:
        """The placement with the highest rate per device that was seen to hold; of equals the one with the fewest devices. Others may be
        as good: see `ties`."""
        return self.best_of("disaggregated", "mixed")

    @property
    def ties(self) -> tuple[Tried, ...]:
        """Placements that the search does not tell from the best: they were not seen to fail at a rate at which it holds."""
        best = self.best
        if best is None:
            return ()
        return tuple(t for t in self.ranked if t is not best and t.low is not None and t.error is None and not told_apart(best, t))

    def best_of(self, *kinds: str) -> Tried | None:
        """The best of some kinds of placement."""
        found = [t for t in self.ranked if t.placement.kind in kinds and t.low is not None and t.error is None]
        return found[0] if found else None
