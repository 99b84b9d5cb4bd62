"""What a placement search found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simserve import __version__
from simserve.report.files import write_json
from simserve.study.cache import Row
from simserve.study.placement import Placement
from simserve.study.rate_key import unit

if TYPE_CHECKING:
    import pandas as pd

PLACEMENT = "placement.json"
SCHEMA_VERSION = 1

_MOST_ERRORS = 3
_SHORT = 10.0  # arrivals must last this many times the median request for the run to tell of a steady state

_SHOWN = ("ttft_p90_s", "tpot_p90_s", "attainment", "kv_used_max", "busy_fraction")


class Tried(NamedTuple):
    """One placement: the highest rate per device that held (`low`), the lowest that did not (`high`), as far as there are any.

    dropped  another placement of the kind was seen to hold at `high`, so the search went no further
    limit    why it fails at `high`
    error    instead, where it cannot be run at all (the model does not fit)
    values   the figures of the run at `low`
    """

    placement: Placement
    low: float | None
    high: float | None
    dropped: bool
    probes: int
    limit: str
    error: str | None
    values: Row


@dataclass(frozen=True)
class PlacementResult:
    """The answer: `best`, or None when the predicate holds nowhere."""

    name: str
    predicate: str
    rate_key: str
    tolerance: float
    affinity: str
    tried: tuple[Tried, ...]

    @property
    def ranked(self) -> list[Tried]:
        """From the best to the worst: by the rate that holds, then the rate that does not, then fewer devices."""
        return sorted(self.tried, key=lambda t: (-(t.low or 0.0), -(t.high or 0.0), t.placement.devices))

    @property
    def best(self) -> Tried | None:
        """The placement with the highest rate per device; of equals the one with the fewest devices."""
        return self.best_of("disaggregated", "mixed")

    def best_of(self, *kinds: str) -> Tried | None:
        """The best of some kinds of placement."""
        found = [t for t in self.ranked if t.placement.kind in kinds and t.low is not None]
        return found[0] if found else None

    def replicas(self, rate: float) -> int:
        """How many of the best placement serve `rate` in all. 0 when there is none."""
        best = self.best
        return 0 if best is None or best.low is None else math.ceil(rate / (best.low * best.placement.devices) - 1e-9)

    @property
    def message(self) -> str:
        """The answer in a sentence or two."""
        best, what = self.best, unit(self.rate_key)
        if best is None or best.low is None:
            rates = [t.high for t in self.tried if t.high is not None]
            return f"No placement holds: '{self.predicate}' fails even at {min(rates):.3g} {what} a device."
        devices = best.placement.devices
        text = f"Best: {best.placement}, {best.low:.3g} {what} a device within {100 * self.tolerance:.3g} % "
        text += f"({best.low * devices:.3g} on {devices} device{'s' if devices > 1 else ''}). Just above it fails: {best.limit}."
        other = self.best_of("mixed" if best.placement.kind == "disaggregated" else "disaggregated")
        if other is not None and other.low:
            text += f" That is {best.low / other.low:.3g} times the best {other.placement.kind} one: {other.placement}."
        return text

    @property
    def notes(self) -> list[str]:
        """What a reader must know before believing the answer."""
        notes = [f"{t.placement}: {t.error}" for t in self.tried if t.error is not None]
        if len(notes) > _MOST_ERRORS:
            notes[_MOST_ERRORS:] = [f"and {len(notes) - _MOST_ERRORS} more placements that cannot be run"]
        values = self.best.values if self.best is not None else {}
        e2e_s, whole_s, longest_s = (values.get(name) or 0.0 for name in ("e2e_p50_s", "simulated_s", "e2e_max_s"))
        if whole_s - longest_s < _SHORT * e2e_s:
            notes.append(
                f"at the best rate all requests arrive within {max(whole_s - longest_s, 0):.3g} s, and take {e2e_s:.3g} s each at the"
                " median: the system is still filling, and would hold less for long; use more requests"
            )
        return notes

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each placement that could be run, best first. `holds_at` and `fails_at` are rates per device."""
        import pandas as pd

        rows = [
            {
                "placement": str(t.placement),
                "devices": t.placement.devices,
                "holds_at": t.low,
                "fails_at": t.high,
                "probes": t.probes,
                **{column: t.values.get(column) for column in _SHOWN},
                "fails_because": t.limit,
            }
            for t in self.ranked
            if t.error is None
        ]
        return pd.DataFrame(rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types: what placement.json holds."""
        best = self.best
        return {
            "schema_version": SCHEMA_VERSION,
            "simserve_version": __version__,
            "name": self.name,
            "predicate": self.predicate,
            "rate_key": self.rate_key,
            "unit": unit(self.rate_key),
            "tolerance": self.tolerance,
            "affinity": self.affinity,
            "best": None if best is None else str(best.placement),
            "rate_per_device": None if best is None else best.low,
            "message": self.message,
            "placements": [
                {
                    "placement": str(t.placement),
                    "pools": [{"role": p.role, "count": p.count, "tp": p.tp, "pp": p.pp} for p in t.placement.pools],
                    "devices": t.placement.devices,
                    "holds_at": t.low,
                    "fails_at": t.high,
                    "dropped": t.dropped,
                    "probes": t.probes,
                    "fails_because": t.limit,
                    "error": t.error,
                }
                for t in self.ranked
            ],
        }

    def write(self, directory: Path) -> None:
        """Writes placement.json. Raises OutputError."""
        write_json(directory / PLACEMENT, self.as_dict())

    def __repr__(self) -> str:
        return f"PlacementResult({self.name!r}: {self.message})"
