"""Re-checking a paper: runs the variants of an experiment and holds its claims against what comes out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.config.claims import ClaimSection, band
from simserve.config.experiment import Experiment, load
from simserve.errors import ConfigError, nearest
from simserve.study.predicate import parse_quantity
from simserve.study.probes import Figures, evaluate
from simserve.study.quantities import value_of

if TYPE_CHECKING:
    from simserve.report.result import Result

_PROBE = "probes."


@dataclass(frozen=True, slots=True)
class Outcome:
    """One claim held against our runs. `ours` is None when the figure is not defined; `values` are the figures of the variants named."""

    claim: str
    published: float | None
    ours: float | None
    low: float | None
    high: float | None
    reproduced: bool
    values: dict[str, float | None]
    note: str


@dataclass(frozen=True, slots=True)
class ClaimsReport:
    """All outcomes of one experiment and the results of its variants."""

    name: str
    paper: dict[str, Any]
    outcomes: tuple[Outcome, ...]
    results: Mapping[str, Result | Figures]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, for claims.json and `--json`."""
        return {"name": self.name, "paper": self.paper, "claims": [asdict(outcome) for outcome in self.outcomes]}

    def write(self, directory: Path, **output: bool) -> None:
        """Each variant's result in a folder of its name, and summary.json with the claims."""
        for variant, result in self.results.items():
            result.write(directory / variant, **output)
        (directory / "summary.json").write_text(json.dumps(self.as_dict(), indent=2, sort_keys=True) + "\n")


def check_claims(
    source: str | Path | Mapping[str, Any], changes: Iterable[str] = (), *, run: Callable[[Experiment], Result | Figures] | None = None
) -> ClaimsReport:
    """Runs every variant of the experiment and judges its claims.

    `run` runs one variant (default: `simserve.run`); an experiment with probes asks the cost model instead.
    Raises ConfigError for variants or figures that do not exist.
    """
    from simserve import api

    changes = list(changes)
    base = load(source, changes)
    variants = base.spec.variants
    if not variants:
        raise ConfigError(f"{base.name}: has no variants to run")
    run = evaluate if base.spec.probes else run or api.run
    for claim in base.spec.claims:
        _known_figure(base, claim.figure)
        for name in claim.of:
            if name not in variants:
                raise ConfigError(f"{base.name}: a claim names the unknown variant '{name}'{nearest(name, variants)}")
    loaded = {name: load(source, [*changes, *_as_changes(change), f"name={base.name}.{name}"]) for name, change in variants.items()}
    results = {name: run(experiment) for name, experiment in loaded.items()}
    outcomes = tuple(_judge(claim, results) for claim in base.spec.claims)
    paper = base.spec.paper.model_dump() if base.spec.paper else {}
    return ClaimsReport(base.name, paper, outcomes, results)


def _as_changes(change: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in change.items()]


def _known_figure(base: Experiment, figure: str) -> None:
    probes = base.spec.probes
    if not probes:
        parse_quantity(figure)
    elif figure.removeprefix(_PROBE) not in probes or not figure.startswith(_PROBE):
        raise ConfigError(f"{base.name}: a claim names the unknown figure '{figure}'{nearest(figure, [_PROBE + name for name in probes])}")


def _figure(result: Result | Figures, figure: str) -> float | None:
    if isinstance(result, Figures):
        return result.values[figure.removeprefix(_PROBE)]
    return value_of(result, parse_quantity(figure))


def _judge(claim: ClaimSection, results: Mapping[str, Result | Figures]) -> Outcome:
    values = {name: _figure(results[name], claim.figure) for name in claim.of}
    found = list(values.values())
    if claim.order:
        rising = all(a is not None and b is not None and a < b for a, b in itertools.pairwise(found))
        return Outcome(f"{claim.figure} rises: {', '.join(claim.of)}", None, None, None, None, rising, values, claim.note)
    ours = found[0]
    text = f"{claim.figure} of {claim.of[0]}"
    if len(found) == 2:
        text = f"{claim.figure}, {claim.of[0]} / {claim.of[1]}"
        ours = found[0] / found[1] if found[0] is not None and found[1] else None
    low, high = band(claim)
    inside = ours is not None and low <= ours <= high
    return Outcome(text, claim.published, ours, _finite(low), _finite(high), inside, values, claim.note)


def _finite(bound: float) -> float | None:
    return bound if abs(bound) != float("inf") else None
