"""What a capacity search found, said plainly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simserve.report.files import write_json, write_whole
from simserve.study.capacity.plots import CapacityPlots
from simserve.study.capacity.words import answer
from simserve.study.caveats import Run, losses, rare, unmeasured, unsteady
from simserve.study.predicate import Predicate
from simserve.study.rate_key import unit
from simserve.study.search import Outcome
from simserve.study.statistics import mean_interval
from simserve.version import __version__

if TYPE_CHECKING:
    import pandas as pd

CAPACITY = "capacity.json"
PROBES = "probes.parquet"
SCHEMA_VERSION = 1


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
class CapacityResult:
    """The answer. `rate` is None where there is none: see `outcome` and `message`."""

    name: str
    predicate: Predicate
    rate_key: str
    tolerance: float
    replicates: tuple[Replicate, ...]
    probes: tuple[Probe, ...]
    search_notes: tuple[str, ...] = ()

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
        """How far above the load that held the one that failed is, as a share of it: at most `tolerance`, or the next whole number."""
        gaps = [(r.high - r.low) / r.low for r in self.replicates if r.low and r.high is not None]
        return max(gaps) if self.outcome == "found" and gaps else None

    @property
    def requests_per_s(self) -> float | None:
        """Requests that arrive per second at the capacity, the mean over the seeds: what a scale of a trace's rate comes to."""
        rates = [probe.values.get("arrivals_per_s") for r in self.replicates for probe in self._at(r.seed, r.low)]
        known = [rate for rate in rates if rate is not None]
        return sum(known) / len(known) if known and self.outcome == "found" else None

    @property
    def message(self) -> str:
        """The answer in a sentence or two."""
        return answer(self)

    @property
    def notes(self) -> list[str]:
        """What a reader must know before believing the answer."""
        tested = self.predicate.quantities
        notes = [*self.search_notes, *losses([Run(p.seed, p.holds, p.values) for p in self.probes], tested)]
        holding = [probe for probe in self.probes if probe.holds]
        if holding:
            heaviest = max(holding, key=lambda probe: probe.rate).values
            notes += [*rare(heaviest, tested), *unsteady(heaviest)]
        failing = [probe for probe in self.probes if not probe.holds]
        if failing:
            lightest = min(failing, key=lambda probe: probe.rate)
            notes += unmeasured(lightest.values, f"{lightest.rate:.4g} {unit(self.rate_key)}")
        if self.interval is not None and self.resolution is not None and self.rate is not None:
            low, high = self.interval
            if high - low < self.resolution * self.rate:
                notes.append("the seeds differ by less than the search resolves, so the interval says little: use a smaller --tolerance")
        return notes

    @property
    def frame(self) -> pd.DataFrame:
        """All probes, a row each: seed, rate, holds, stable, reasons, then the figures of the run; sorted by rate and seed."""
        import pandas as pd

        rows = [
            {"seed": p.seed, "rate": p.rate, "holds": p.holds, "stable": p.stable, "reasons": "; ".join(p.reasons), **p.values}
            for p in sorted(self.probes, key=lambda p: (p.rate, p.seed))
        ]
        table = pd.DataFrame(rows)
        figures = [name for name in table.columns if name not in ("seed", "rate", "holds", "stable", "reasons")]
        return table.astype(dict.fromkeys(figures, "float64"))

    @property
    def plot(self) -> CapacityPlots:
        """Plots of the probes: each method returns matplotlib axes."""
        return CapacityPlots(self.frame, self.rate_key, self.rate)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types: what capacity.json holds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "simserve_version": __version__,
            "name": self.name,
            "predicate": self.predicate.text,
            "rate_key": self.rate_key,
            "unit": unit(self.rate_key),
            "tolerance": self.tolerance,
            "outcome": self.outcome,
            "rate": self.rate,
            "interval": None if self.interval is None else list(self.interval),
            "resolution": self.resolution,
            "requests_per_s": self.requests_per_s,
            "saturates": self.saturates,
            "limit": self.limit,
            "message": self.message,
            "notes": self.notes,
            "replicates": [r._asdict() for r in self.replicates],
            "probes": [
                {"seed": p.seed, "rate": p.rate, "holds": p.holds, "stable": p.stable, "reasons": list(p.reasons)} for p in self.probes
            ],
        }

    def write(self, directory: str | Path, *, plots: bool = True) -> Path:
        """Writes probes.parquet, goodput.png and frontier.png, and capacity.json last. Raises OutputError."""
        import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
        import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

        from simserve.report.page import pictures

        out = Path(directory)
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / PROBES, lambda part: pq.write_table(pa.Table.from_pandas(self.frame, preserve_index=False), part))
        if plots:
            for picture in pictures(self.plot.figures()):
                write_whole(out / f"{picture.name}.png", lambda part, png=picture.png: part.write_bytes(png))  # type: ignore[misc]
        write_json(out / CAPACITY, self.as_dict())
        return out

    def __repr__(self) -> str:
        return f"CapacityResult({self.name!r}: {self.message})"

    def _repr_html_(self) -> str:
        from simserve.study.capacity.page import fragment

        return fragment(self)

    def _interval(self) -> tuple[float, float, float]:
        return mean_interval([replicate.low or math.nan for replicate in self.replicates])

    def _edges(self) -> list[Probe]:
        return [probe for r in self.replicates for probe in self._at(r.seed, r.high)]

    def _at(self, seed: int, rate: float | None) -> list[Probe]:
        return [probe for probe in self.probes if probe.seed == seed and probe.rate == rate][:1]
