"""What a plan search found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.deploy.result import FOLDER
from simserve.report.files import write_json
from simserve.study.caveats import rare, unsteady
from simserve.study.plan.figures import BY_BOUNDS, Fate, Outcome, PlanFigures
from simserve.study.plan.words import answer
from simserve.study.quantities import SCALED
from simserve.version import __version__

if TYPE_CHECKING:
    import pandas as pd

PLAN = "plan.json"
SCHEMA_VERSION = 1

SHOWN = (
    "ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s", "attainment", "output_tokens_per_s", "usd_per_million_output_tokens",
    "kwh_per_million_output_tokens", "gco2_per_million_output_tokens", "busy_fraction", "kv_used_max",
)  # fmt: skip


class PlanResult(PlanFigures):
    """The answer: `best`, or None when no plan meets the predicate; `pareto`, and every other plan with the limit that it breaks."""

    @property
    def figures_shown(self) -> tuple[str, ...]:
        """Columns of tables and charts: SHOWN, and those of scaling where a plan starts instances."""
        return (*SHOWN, *(SCALED if any(one.values.get("starts") for one in self.outcomes) else ()))

    @property
    def message(self) -> str:
        """The answer in a few sentences."""
        return answer(self)

    @property
    def notes(self) -> list[str]:
        """What a reader must know before believing the answer."""
        notes = list(self.search_notes)
        best = self.best
        if best is not None:
            notes += [*rare(best.values, self.predicate.quantities), *unsteady(best.values, "")]
            verification = best.verification
            if verification is not None and verification.label:
                notes.append(f"how far to believe {best.name}: {verification.reason}")
            if verification is not None and verification.ends and all(e.low == e.high for e in verification.ends.values()):
                notes.append("the seed changes nothing in this workload: fresh seeds repeat the run, and its intervals hold no chance")
        assumed = [name for name, price in self._listed().items() if price["assumed"]]
        if assumed:
            notes.append(f"the price of {', '.join(assumed)} is assumed, not from a dated list; state your own (prices.usd_per_hour)")
        if not self.limits:
            notes.append("the predicate joins no single limits by 'and', so nothing was eliminated by its latencies or by short runs")
        return notes

    @property
    def effort(self) -> str:
        """How many plans there were, how many needed no simulation, and what the others took."""
        by_bounds = sum(one.fate in BY_BOUNDS for one in self.outcomes)
        whole = self.requests / self.requests_whole if self.requests_whole else 0.0
        return (
            f"{len(self.outcomes):,} plans, {by_bounds:,} of them eliminated by bounds; {self.runs:,} runs, {self.requests:,} requests in "
            f"all: as many as {whole:.3g} runs of the whole workload"
        )

    def _listed(self) -> dict[str, Any]:
        found = self.prices.get("devices")
        return dict(found) if isinstance(found, dict) else {}

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each plan, the cheapest first: what it costs, what became of it and why, its utilisation and figures."""
        import pandas as pd

        pareto = {id(one) for one in self.pareto}
        columns = dict.fromkeys((*(limit.quantity.column for limit in self.limits), *self.figures_shown))
        rows = [
            {
                "plan": one.name,
                "devices": one.devices,
                "usd_per_hour": one.usd_per_hour,
                "fate": str(one.fate),
                "pareto": id(one) in pareto,
                "why": one.why,
                "utilisation": one.utilisation,
                "head_room": one.head_room,
                "requests_fraction": one.fraction,
                **{column: value for column in columns if (value := one.values.get(column)) is not None or column != "usd_per_hour"},
            }
            for one in self.outcomes
        ]
        table = pd.DataFrame(rows)
        return table.astype({name: "float64" for name in ("usd_per_hour", "utilisation", "head_room", *columns) if name in table})

    @property
    def shown(self) -> list[Outcome]:
        """The plans that a terminal has room for: those simulated in full, and of the others the nearest of each fate."""
        kept = [one for one in self.outcomes if one.fraction >= 1.0 or one.fate in (Fate.VERIFIED, Fate.REFUTED)]
        for fate in Fate:
            others = [one for one in self.outcomes if one.fate == fate and one not in kept]
            kept += sorted(others, key=lambda one: (one.utilisation or 0.0, one.order))[:1]
        return sorted(kept, key=lambda one: one.order)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types: what plan.json holds."""
        best = self.best
        return {
            "schema_version": SCHEMA_VERSION,
            "simserve_version": __version__,
            "name": self.name,
            "predicate": self.predicate.text,
            "load": self.load,
            "best": None if best is None else best.name,
            "clear": None if self.clear is None else self.clear.name,
            "pareto": [one.name for one in self.pareto],
            "message": self.message,
            "notes": self.notes,
            "effort": self.effort,
            "search_notes": list(self.search_notes),
            "prices": self.prices,
            "runs": self.runs,
            "requests": self.requests,
            "requests_whole": self.requests_whole,
            "plans": [_plain(one) for one in self.outcomes],
            **({} if self.launch is None else {"deploy": self.launch.as_dict()}),
        }

    def write(self, directory: Path) -> None:
        """Writes plan.json, and the answer's command lines and manifests into a folder. Raises OutputError."""
        if self.launch is not None:
            self.launch.write(directory / FOLDER)
        write_json(directory / PLAN, self.as_dict())

    def __repr__(self) -> str:
        return f"PlanResult({self.name!r}: {self.message})"

    def _repr_html_(self) -> str:
        from simserve.study.notebook import fragment

        return fragment(self.message, self.frame[["plan", "devices", "usd_per_hour", "fate", "why"]], self.notes)


def _plain(one: Outcome) -> dict[str, Any]:
    verification = one.verification
    return {
        "plan": one.name,
        "hardware": one.hardware,
        "pools": [dict(pool) for pool in one.pools],
        "devices": one.devices,
        "usd_per_hour": one.usd_per_hour,
        "fate": str(one.fate),
        "why": one.why,
        "utilisation": one.utilisation,
        "head_room": one.head_room,
        "requests_fraction": one.fraction,
        "figures": dict(one.values),
        "verification": None
        if verification is None
        else {
            "seeds": list(verification.seeds),
            "failures": list(verification.failures),
            "doubtful": list(verification.doubtful),
            "label": verification.label,
            "reason": verification.reason,
            "figures": {
                column: {"mean": e.mean, "chance": [e.low, e.high], "with_model": None if e.with_model is None else list(e.with_model)}
                for column, e in verification.ends.items()
            },
        },
    }
