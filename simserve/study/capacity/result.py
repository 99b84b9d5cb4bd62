"""What a capacity search found, said plainly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.report.files import write_json, write_whole
from simserve.study.capacity.figures import CapacityFigures, Probe
from simserve.study.capacity.plots import CapacityPlots
from simserve.study.capacity.words import answer
from simserve.study.caveats import Run, losses, rare, unmeasured, unsteady
from simserve.study.rate_key import unit
from simserve.version import __version__

if TYPE_CHECKING:
    import pandas as pd

CAPACITY = "capacity.json"
PROBES = "probes.parquet"
SCHEMA_VERSION = 1


class CapacityResult(CapacityFigures):
    """The answer. `rate` is None where there is none: see `outcome` and `message`."""

    @property
    def message(self) -> str:
        """The answer in a sentence or two."""
        return answer(self)

    @property
    def belief_line(self) -> str:
        """How far to believe it, in a line; "" without an answer."""
        return "" if self.belief is None or self.rate is None else self.belief.line(self.rate, unit(self.rate_key))

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
            for p in self._in_order()
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
            "uncertainty": None if self.belief is None else self.belief.as_dict(),
            "limit": self.limit,
            "message": self.message,
            "notes": self.notes,
            "replicates": [r._asdict() for r in self.replicates],
            "probes": [
                {"seed": p.seed, "rate": p.rate, "holds": p.holds, "stable": p.stable, "reasons": list(p.reasons)} for p in self._in_order()
            ],
        }

    def _in_order(self) -> list[Probe]:
        """By rate and seed, however the search came by them: tables, and the search read back, have them so."""
        return sorted(self.probes, key=lambda p: (p.rate, p.seed))

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
        from simserve.study.notebook import fragment

        columns = ["rate", "seed", "holds", *(quantity.column for quantity in self.predicate.quantities), "reasons"]
        return fragment(self.message, self.frame[columns], self.notes)
