"""Re-checking a paper: runs the variants of an experiment and holds its claims against what comes out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.config.claims import ClaimSection, band
from simserve.config.experiment import Experiment, load
from simserve.errors import ConfigError, nearest
from simserve.study.claims.kinds import Kind, counts, kind_of
from simserve.study.predicate import parse_quantity
from simserve.study.probes import Figures, evaluate
from simserve.study.quantities import value_of

if TYPE_CHECKING:
    from simserve.report.result import Result

_PROBE = "probes."


@dataclass(frozen=True, slots=True)
class Outcome:
    """One claim held against our runs. `ours` is None when the figure is not defined; `values` are the figures of the variants named.

    kind     what it proves (`study.claims.kinds`)
    because  which input was taken from the published figures, where one was
    bounds   why the sides of the band lie where they do
    """

    claim: str
    published: float | None
    ours: float | None
    low: float | None
    high: float | None
    reproduced: bool
    values: dict[str, float | None]
    note: str
    kind: Kind = "predicted"
    because: str = ""
    bounds: str = ""


@dataclass(frozen=True, slots=True)
class ClaimsReport:
    """All outcomes of one experiment, and what its variants gave: results of runs, or answers to its probes.

    results  variant -> its run; of a variant that was only asked its probes, the answers
    probed   variant -> its answers, of variants that were run and asked
    """

    name: str
    paper: dict[str, Any]
    outcomes: tuple[Outcome, ...]
    results: Mapping[str, Result | Figures]
    probed: Mapping[str, Figures] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types, for claims.json and `--json`."""
        counted = {count.short.replace(" ", "_"): {"inside": count.inside, "of": count.total} for count in counts(self.outcomes)}
        return {"name": self.name, "paper": self.paper, "counts": counted, "claims": [asdict(outcome) for outcome in self.outcomes]}

    def write(self, directory: Path, **output: bool) -> None:
        """Each variant's result in a folder of its name, and summary.json with the claims."""
        for variant, result in self.results.items():
            result.write(directory / variant, **output)
        for variant, figures in self.probed.items():
            figures.write(directory / f"{variant}.probes")
        (directory / "summary.json").write_text(json.dumps(self.as_dict(), indent=2, sort_keys=True) + "\n")


def _run(experiment: Experiment) -> Result:
    from simserve.simulation import simulated
    from simserve.study.intervals import bands

    result = simulated(experiment)
    if experiment.spec.intervals:
        result.intervals = bands(experiment, experiment.spec.intervals)
    return result


def check_claims(
    source: str | Path | Mapping[str, Any],
    changes: Iterable[str] = (),
    *,
    run: Callable[[Experiment], Result] | None = None,
    moved: Callable[[Experiment], Iterable[str]] | None = None,
) -> ClaimsReport:
    """Runs every variant of the experiment and judges its claims.

    An experiment with probes asks them of its variants, and runs only the variants of which a claim names another figure; a capacity is
    searched for where a claim names it. `run` runs one variant (default: as `simserve.run` does), `moved` says what else to change in one.
    Raises ConfigError for variants or figures that do not exist.
    """
    changes = list(changes)
    base = load(source, changes)
    variants = base.spec.variants
    if not variants:
        raise ConfigError(f"{base.name}: has no variants to run")
    for claim in base.spec.claims:
        _known_figure(base, claim.figure)
        for name in claim.of:
            if not _meant(name, variants):
                raise ConfigError(f"{base.name}: a claim names the unknown variant '{name}'{nearest(name, variants)}")
    results: dict[str, Result | Figures] = {}
    probed: dict[str, Figures] = {}
    for name, change in variants.items():
        own = [*changes, *_as_changes(change), f"name={base.name}.{name}"]
        experiment = load(source, own)
        if moved is not None and (further := list(moved(experiment))):
            experiment = load(source, [*own, *further])
        figures = {claim.figure for claim in base.spec.claims if any(name in _meant(of, variants) for of in claim.of)}
        probes = experiment.spec.probes
        wanted = [probe for probe, asked in probes.items() if asked.measure != "capacity" or _PROBE + probe in figures]
        if wanted:
            probed[name] = evaluate(experiment, wanted)
        if not probes or not all(figure.startswith(_PROBE) for figure in figures):
            results[name] = (run or _run)(experiment)
    flags = {_PROBE + name for name, probe in base.spec.probes.items() if probe.measure == "fits"}
    outcomes = tuple(
        judge(claim, {name: _highest(name, claim.figure, results, probed) for name in claim.of}, flag=claim.figure in flags)
        for claim in base.spec.claims
    )
    paper = base.spec.paper.model_dump() if base.spec.paper else {}
    both = {name: figures for name, figures in probed.items() if name in results}
    return ClaimsReport(base.name, paper, outcomes, {**probed, **results}, both)


def _meant(name: str, variants: Iterable[str]) -> list[str]:
    """The variants that a claim means by a name."""
    if name.endswith("*"):
        return [variant for variant in variants if variant.startswith(name[:-1])]
    return [variant for variant in variants if variant == name]


def _as_changes(change: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in change.items()]


def _known_figure(base: Experiment, figure: str) -> None:
    probes = [_PROBE + name for name in base.spec.probes]
    if figure in probes:
        return
    if figure.startswith(_PROBE) or base.spec.workload is None:
        raise ConfigError(f"{base.name}: a claim names the unknown figure '{figure}'{nearest(figure, probes)}")
    parse_quantity(figure)


def _highest(name: str, figure: str, results: Mapping[str, Result | Figures], probed: Mapping[str, Figures]) -> float | None:
    """The figure of a variant, or the highest of those that the name stands for."""
    found = [_figure(variant, figure, results, probed) for variant in _meant(name, {**probed, **results})]
    return max((value for value in found if value is not None), default=None)


def _figure(name: str, figure: str, results: Mapping[str, Result | Figures], probed: Mapping[str, Figures]) -> float | None:
    if figure.startswith(_PROBE):
        return probed[name].values[figure.removeprefix(_PROBE)]
    result = results[name]
    assert not isinstance(result, Figures)
    return value_of(result, parse_quantity(figure))


def judge(claim: ClaimSection, values: dict[str, float | None], *, flag: bool = False) -> Outcome:
    """A claim held against the figures of the variants it names, in its order. `flag`: the figure says yes (1) or no (0)."""
    kind = kind_of(published=claim.published is not None, basis=claim.basis, flag=flag)
    found = list(values.values())
    if claim.order:
        rising = all(a is not None and b is not None and a < b for a, b in itertools.pairwise(found))
        text, ours, low, high, inside = f"{claim.figure} rises: {', '.join(claim.of)}", None, None, None, rising
    else:
        ours = found[0]
        text = f"{claim.figure} of {claim.of[0]}"
        if len(found) == 2:
            text = f"{claim.figure}, {claim.of[0]} / {claim.of[1]}"
            ours = found[0] / found[1] if found[0] is not None and found[1] else None
        least, most = band(claim)
        inside = ours is not None and least <= ours <= most
        low, high = _finite(least), _finite(most)
    return Outcome(text, claim.published, ours, low, high, inside, values, claim.note, kind, claim.because, claim.bounds)


def _finite(bound: float) -> float | None:
    return bound if abs(bound) != float("inf") else None
