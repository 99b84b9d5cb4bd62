"""The figures of a plan search: what became of each plan, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from simserve.deploy.result import Launch
from simserve.study.cache import Row
from simserve.study.limits import Limit, limits
from simserve.study.predicate import Predicate


class Fate(StrEnum):
    """What became of a plan, as tables say it."""

    IMPOSSIBLE = "does not fit"
    TOO_SLOW = "too slow"
    OVERLOADED = "overloaded"
    FAILED = "misses the SLO"
    NOT_RUN = "costs more"
    HELD = "met it once"
    REFUTED = "misses the SLO when verified"
    VERIFIED = "meets the SLO"


BY_BOUNDS = (Fate.IMPOSSIBLE, Fate.TOO_SLOW, Fate.OVERLOADED)
"""Fates that no simulation was needed for."""


_LESS_IS_BETTER = ("ttft_p99_s", "tpot_p99_s", "kwh_per_million_output_tokens")
"""What a plan may be better in than another, beside its cost and the limits."""


class Ends(NamedTuple):
    """A verified figure: mean over the seeds, the interval that chance leaves, the one with the model's own error where that is known."""

    mean: float
    low: float
    high: float
    with_model: tuple[float, float] | None

    @property
    def widest(self) -> tuple[float, float]:
        """The interval with all errors that are known."""
        return self.with_model or (self.low, self.high)


class Verification(NamedTuple):
    """What fresh seeds showed of a plan.

    ends      column -> figure with its intervals
    failures  limits that the means break
    doubtful  limits that lie inside the error of their figure, in words
    label     how far to believe its runs (measured, fitted, extrapolated, estimate), "" = not known; reason: why, in a line
    """

    seeds: tuple[int, ...]
    ends: dict[str, Ends]
    failures: tuple[str, ...]
    doubtful: tuple[str, ...]
    label: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """One plan. `values` are of its longest run, or means over the fresh seeds; `fraction` of the requests in that run.

    utilisation  of its busiest pool at best, by the capacity bound; None where the load follows the plan
    why          the limit that binds, or what it costs beside the answer
    """

    name: str
    hardware: str
    pools: tuple[Mapping[str, Any], ...]
    devices: int
    usd_per_hour: float | None
    fate: Fate
    why: str
    utilisation: float | None = None
    values: Row = field(default_factory=dict)
    fraction: float = 0.0
    verification: Verification | None = None

    @property
    def order(self) -> float:
        """What plans are ranked by."""
        return float(self.devices) if self.usd_per_hour is None else self.usd_per_hour

    @property
    def head_room(self) -> float | None:
        """By what fraction the load could grow before the capacity bound, at best."""
        return None if not self.utilisation else 1.0 / self.utilisation - 1.0


@dataclass(frozen=True)
class PlanFigures:
    """All plans, in order of cost, and what was simulated to tell them apart.

    requests         simulated in all: runs x their requests
    requests_whole   of the workload
    load             what was planned for, in words
    launch           the answer as command lines and manifests; None without an answer, or for an engine that has none
    """

    name: str
    predicate: Predicate
    outcomes: tuple[Outcome, ...]
    runs: int
    requests: int
    requests_whole: int
    prices: dict[str, object] = field(default_factory=dict)
    search_notes: tuple[str, ...] = ()
    launch: Launch | None = None
    load: str = ""

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits of the predicate."""
        return limits(self.predicate)

    @property
    def verified(self) -> tuple[Outcome, ...]:
        """Plans that meet the predicate on fresh seeds, the cheapest first."""
        return tuple(one for one in self.outcomes if one.fate == Fate.VERIFIED)

    @property
    def best(self) -> Outcome | None:
        """The cheapest plan that was verified; of equals the one that was ranked first."""
        return self.verified[0] if self.verified else None

    @property
    def clear(self) -> Outcome | None:
        """The cheapest verified plan none of whose limits lies inside the error of its figure."""
        return next((one for one in self.verified if one.verification is not None and not one.verification.doubtful), None)

    @property
    def pareto(self) -> tuple[Outcome, ...]:
        """Verified plans that no other beats in cost, energy, tail latencies and every limited figure at once."""
        return tuple(one for one in self.verified if not any(self._beats(other, one) for other in self.verified if other is not one))

    def _beats(self, other: Outcome, one: Outcome) -> bool:
        """At least as good in everything, better in something."""
        pairs = [(other.order, one.order)]
        columns = [(limit.quantity.column, limit.upper) for limit in self.limits] + [(column, True) for column in _LESS_IS_BETTER]
        for column, less in columns:
            theirs, own = other.values.get(column), one.values.get(column)
            if theirs is not None and own is not None:
                pairs.append((theirs, own) if less else (-theirs, -own))
        return all(theirs <= own for theirs, own in pairs) and any(theirs < own for theirs, own in pairs)
