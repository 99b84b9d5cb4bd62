"""What a placement search found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.report.files import write_json
from simserve.study.caveats import rare, unsteady
from simserve.study.placement.figures import PlacementFigures, Tried, told_apart
from simserve.study.placement.words import answer
from simserve.study.rate_key import unit
from simserve.version import __version__

if TYPE_CHECKING:
    import pandas as pd

PLACEMENT = "placement.json"
SCHEMA_VERSION = 1

_MOST_ERRORS = 3
_SHOWN = (
    "ttft_p50_s", "ttft_p90_s", "ttft_p95_s", "ttft_p99_s", "tpot_p50_s", "tpot_p90_s", "tpot_p95_s", "tpot_p99_s", "attainment",
    "arrivals_per_s", "kv_used_max", "busy_fraction", "usd_per_million_output_tokens", "kwh_per_million_output_tokens",
)  # fmt: skip


class PlacementResult(PlacementFigures):
    """The answer: `best`, or None when the predicate holds nowhere."""

    def replicas(self, rate: float, *, per_s: bool = False) -> int:
        """How many of the best placement serve `rate` in all, in the unit of the search or, with `per_s`, in requests/s. 0 when there is
        none, or the best run does not say how many requests it served.
        """
        best = self.best
        if best is None or best.low is None:
            return 0
        whole = best.values.get("arrivals_per_s") if per_s else best.low * best.placement.devices
        return math.ceil(rate / whole - 1e-9) if whole else 0

    @property
    def message(self) -> str:
        """The answer in a sentence or two."""
        return answer(self)

    @property
    def belief_line(self) -> str:
        """How far to believe the best rate per device, in a line; "" without an answer."""
        best = self.best
        if self.belief is None or best is None or best.low is None:
            return ""
        return self.belief.line(best.low, f"{unit(self.rate_key)} a device")

    @property
    def notes(self) -> list[str]:
        """What a reader must know before believing the answer."""
        notes = [f"{t.placement}: {t.error}" for t in self.tried if t.error is not None]
        if len(notes) > _MOST_ERRORS:
            notes[_MOST_ERRORS:] = [f"and {len(notes) - _MOST_ERRORS} more placements that cannot be run"]
        values = self.best.values if self.best is not None else {}
        return [*self.search_notes, *notes, *rare(values, self.predicate.quantities), *unsteady(values)]

    def place_of(self, tried: Tried) -> str:
        """best, a tie with it, or how it stands to the best rate: '-12 %'. Empty for a placement that holds nowhere."""
        best = self.best
        if best is None or best.low is None or tried.low is None:
            return ""
        if tried is best:
            return "best"
        return f"{100 * (tried.low / best.low - 1):.0f} %" if told_apart(best, tried) else "tie"

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
                "place": self.place_of(t),
                "probes": t.probes,
                **{column: t.values.get(column) for column in dict.fromkeys((*(q.column for q in self.predicate.quantities), *_SHOWN))},
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
            "predicate": self.predicate.text,
            "rate_key": self.rate_key,
            "unit": unit(self.rate_key),
            "tolerance": self.tolerance,
            "affinity": self.affinity,
            "best": None if best is None else str(best.placement),
            "ties": [str(t.placement) for t in self.ties],
            "rate_per_device": None if best is None else best.low,
            "message": self.message,
            "uncertainty": None if self.belief is None else self.belief.as_dict(),
            "notes": self.notes,
            "search_notes": list(self.search_notes),
            "placements": [
                {
                    "placement": str(t.placement),
                    "pools": [{"role": p.role, "count": p.count, "tp": p.tp, "pp": p.pp} for p in t.placement.pools],
                    "devices": t.placement.devices,
                    "holds_at": t.low,
                    "fails_at": t.high,
                    "dropped": t.dropped,
                    "probes": t.probes,
                    "bounded": t.bounded,
                    "fails_because": t.limit,
                    "saturates": t.saturates,
                    "error": t.error,
                    "figures": t.values,
                }
                for t in self.ranked
            ],
        }

    def write(self, directory: Path) -> None:
        """Writes placement.json. Raises OutputError."""
        write_json(directory / PLACEMENT, self.as_dict())

    def __repr__(self) -> str:
        return f"PlacementResult({self.name!r}: {self.message})"

    def _repr_html_(self) -> str:
        from simserve.study.notebook import fragment

        columns = ["placement", "devices", "place", "holds_at", "fails_at", "fails_because"]
        return fragment(self.message, self.frame[columns], self.notes)
