"""What a capacity search found, said plainly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simserve import __version__
from simserve.report.files import write_json, write_whole
from simserve.study.capacity_plots import CapacityPlots
from simserve.study.predicate import Predicate
from simserve.study.rate_key import unit
from simserve.study.search import Outcome
from simserve.study.statistics import CONFIDENCE, mean_interval

if TYPE_CHECKING:
    import pandas as pd

CAPACITY = "capacity.json"
PROBES = "probes.parquet"
SCHEMA_VERSION = 1
_FEW = 10
_SHORT = 10.0  # arrivals must last this many times the median request for the run to tell of a steady state


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
    def limit(self) -> str:
        """What fails first above the capacity, in words; empty when nothing does."""
        failing = [probe for probe in self.probes if not probe.holds]
        return "; ".join(min(failing, key=lambda probe: probe.rate).reasons) if failing else ""

    @property
    def saturates(self) -> bool:
        """Whether the queue, not the predicate, is what ends the range: the lowest failing probe still satisfied the predicate."""
        failing = [probe for probe in self.probes if not probe.holds]
        return bool(failing) and self.predicate.holds(min(failing, key=lambda probe: probe.rate).values)

    @property
    def message(self) -> str:
        """The answer in a sentence or two."""
        rates = [probe.rate for probe in self.probes]
        what = unit(self.rate_key)
        if self.outcome == "never":
            which = self._share("never")
            return (
                f"Never holds{which}: '{self.predicate.text}' fails even at {min(rates):.4g} {what}, "
                f"where the load is too light to matter. {self.limit}."
            )
        if self.outcome == "always":
            which = self._share("always")
            return (
                f"Always holds{which}: '{self.predicate.text}' holds up to {max(rates):.4g} {what}, where all requests are in the "
                "system at once. The workload is too short to load it: use more requests (count, duration_s) or a stricter predicate."
            )
        assert self.rate is not None
        text = f"Capacity {self.rate:.4g} {what}"
        if self.interval is not None:
            low, high = self.interval
            text += f" ({100 * CONFIDENCE:.0f} % confidence {low:.4g} to {high:.4g}, {len(self.replicates)} seeds)"
        text += f", within {100 * self.tolerance:.3g} %: the highest load at which '{self.predicate.text}' holds. "
        if self.saturates:
            return text + "Above it the system saturates: the queue grows through the run while the predicate still holds."
        return text + f"Just above it fails: {self.limit}."

    @property
    def notes(self) -> list[str]:
        """What a reader must know before believing the answer."""
        notes = list(self.search_notes)
        rare = [(q, 1 - float(q.stat[1:].replace("_", ".")) / 100) for q in self.predicate.quantities if q.stat[:1] == "p"]
        for quantity, share in rare:
            requests = min((probe.values.get("requests") or 0.0 for probe in self.probes), default=0.0)
            if requests * share < _FEW and quantity.name != "itl":
                notes.append(f"{quantity.text} rests on about {requests * share:.0f} of {requests:,.0f} requests: use more requests")
        period_s, run_s = _shortest(self.probes)
        if period_s < _SHORT * run_s:
            notes.append(
                f"the requests of the heaviest load that holds arrive within {period_s:.3g} s, and take {run_s:.3g} s each at the median: "
                "the system is still filling, and would hold less for long; use more requests"
            )
        crossing = [r.seed for r in self.replicates if _crosses(self.probes, r.seed)]
        if crossing:
            seeds = ", ".join(str(seed) for seed in crossing)
            notes.append(f"not monotone: a higher rate held where a lower one failed (seed {seeds}); see the probes, use more requests")
        for key, what in (("rejected", "rejected"), ("failed", "failed")):
            most = max((probe.values.get(key) or 0.0 for probe in self.probes if probe.holds), default=0.0)
            if most:
                notes.append(f"up to {most:,.0f} requests were {what} in probes that hold: add 'completed >= 1' to the predicate")
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
        from simserve.study.capacity_page import fragment

        return fragment(self)

    def _interval(self) -> tuple[float, float, float]:
        return mean_interval([replicate.low or math.nan for replicate in self.replicates])

    def _share(self, outcome: Outcome) -> str:
        number = sum(replicate.outcome == outcome for replicate in self.replicates)
        return "" if number == len(self.replicates) else f" for {number} of {len(self.replicates)} seeds"


def _shortest(probes: tuple[Probe, ...]) -> tuple[float, float]:
    """(seconds in which the requests of the heaviest holding load arrive, median seconds of a request there)."""
    holding = [probe for probe in probes if probe.holds]
    if not holding:
        return math.inf, 0.0
    values = max(holding, key=lambda probe: probe.rate).values
    e2e_s, simulated_s, longest_s = (values.get(name) or 0.0 for name in ("e2e_p50_s", "simulated_s", "e2e_max_s"))
    return max(simulated_s - longest_s, 0.0), e2e_s


def _crosses(probes: tuple[Probe, ...], seed: int) -> bool:
    failing = [probe.rate for probe in probes if probe.seed == seed and not probe.holds]
    return any(probe.holds and failing and probe.rate > min(failing) for probe in probes if probe.seed == seed)
