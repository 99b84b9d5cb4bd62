"""`simserve.paired`: two configurations over the same seeds, each seed compared with itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError
from simserve.progress.study import Meter, Progress, shown
from simserve.report.rows import milliseconds, number
from simserve.study.backends import execute
from simserve.study.base import Base, base, with_seed
from simserve.study.predicate import parse_quantity
from simserve.study.prepare import seeds_from
from simserve.study.quantities import Quantity
from simserve.study.statistics import CONFIDENCE, mean_interval
from simserve.study.task import Task
from simserve.version import __version__

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["higher", "lower", "equal", "not told apart", "not defined", "one seed"]

REPLICATES = 5
METRICS = ("ttft.p50", "ttft.p95", "ttft.p99", "tpot.p50", "tpot.p95", "tpot.p99", "throughput.output_tokens", "attainment", "goodput")
SCHEMA_VERSION = 1


class PairedRow(NamedTuple):
    """One figure. Means over the seeds; `difference` is the mean of second - first, [low, high] its Student's t interval, all in the
    figure's unit; None where they are not defined (low and high of a single seed, too).

    verdict  higher or lower: the interval of the second's difference does not reach 0. equal: no seed differs. not told apart: it reaches 0
    better   first or second when one is, by which way is worse for the figure; "" otherwise
    """

    quantity: Quantity
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    better: Literal["first", "second", ""]


@dataclass(frozen=True)
class PairedComparison:
    """All figures of two configurations, called by `names`."""

    names: tuple[str, str]
    seeds: tuple[int, ...]
    confidence: float
    rows: tuple[PairedRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each figure: its column's name with the unit, both means, difference, low, high, verdict, better."""
        import pandas as pd

        return pd.DataFrame([{"figure": row.quantity.column, **row._asdict()} for row in self.rows]).drop(columns="quantity")

    def cells(self) -> list[tuple[str, ...]]:
        """figure, first, second, difference with its interval, relative difference, verdict: as text."""
        return [_cells(row) for row in self.rows]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        rows = [{"figure": row.quantity.text, "column": row.quantity.column, **row._asdict()} for row in self.rows]
        for row in rows:
            del row["quantity"]
        return {
            "schema_version": SCHEMA_VERSION,
            "simserve_version": __version__,
            "first": self.names[0],
            "second": self.names[1],
            "seeds": list(self.seeds),
            "confidence": self.confidence,
            "rows": rows,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        told = sum(row.verdict in ("higher", "lower") for row in self.rows)
        return f"PairedComparison({self.names[0]!r}, {self.names[1]!r}: {told} of {len(self.rows)} figures differ, {len(self.seeds)} seeds)"

    def _repr_html_(self) -> str:
        from simserve.report.page import render

        sentence = f"{self!r}, {100 * self.confidence:g} % intervals of the mean difference"
        return render("notebook_table.html.j2", sentence=sentence, headings=HEADINGS, rows=self.cells(), more=0, notes=self.notes)


HEADINGS = ("figure", "first", "second", "second - first", "relative", "verdict")

Source = Experiment | str | Path | Mapping[str, Any]


def paired(
    first: Source,
    second: Source,
    /,
    metrics: Sequence[str] = METRICS,
    *,
    replicates: int | None = None,
    seeds: Sequence[int] | None = None,
    confidence: float = CONFIDENCE,
    names: tuple[str, str] | None = None,
    jobs: int | None = None,
    progress: bool | Progress = False,
) -> PairedComparison:
    """Runs two experiments with the same seeds and compares each seed with itself.

    The seed makes the workload, so where both have the same workload section each pair of runs serves the same requests (common random
    numbers): what differs is the system. The interval is Student's t of the mean of the differences (Law, Simulation Modeling and
    Analysis, section 10.2).

    metrics     figures as in a predicate: "ttft.p99", "classes.chat.goodput"
    replicates  so many seeds from the first experiment's own on (default 5), or the `seeds` themselves
    names       what the two are called; default: the names of the experiments

    Raises ConfigError for experiments or figures that make no sense, and for a run that fails.
    """
    with shown(progress) as show:
        return find(base(first), base(second), metrics, replicates, seeds, confidence, names, jobs, show)


def find(
    first: Base,
    second: Base,
    metrics: Sequence[str] = METRICS,
    replicates: int | None = None,
    seeds: Sequence[int] | None = None,
    confidence: float = CONFIDENCE,
    names: tuple[str, str] | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> PairedComparison:
    """`paired` of two bases."""
    _check_confidence(confidence)
    loaded = (first.load(), second.load())
    wanted = tuple(parse_quantity(metric) for metric in dict.fromkeys(metrics))
    if seeds is None and replicates is None:
        replicates = REPLICATES
    numbers = seeds_from(loaded[0].spec.seed, seeds, replicates)
    tasks = [
        Task(side * len(numbers) + place, with_seed(experiment, seed), wanted)
        for side, experiment in enumerate(loaded)
        for place, seed in enumerate(numbers)
    ]
    found: list[list[Mapping[str, float | None]]] = [[{}] * len(numbers), [{}] * len(numbers)]
    meter = Meter("runs", len(tasks), progress)
    for outcome in execute(tasks, len(tasks), jobs=jobs):
        side, place = divmod(outcome.number, len(numbers))
        if outcome.values is None:
            raise ConfigError(f"{loaded[side].name}, seed {numbers[place]}: {outcome.error}")
        found[side][place] = outcome.values
        meter.add()
    rows = tuple(compare(q, _values(q, found[0]), _values(q, found[1]), confidence) for q in wanted)
    called = names or _names(loaded)
    return PairedComparison(called, numbers, confidence, rows, tuple(_notes(loaded, found)))


def compare(quantity: Quantity, first: Sequence[float | None], second: Sequence[float | None], confidence: float = CONFIDENCE) -> PairedRow:
    """One figure of two configurations, a value of each for every seed."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(pairs) < len(first):
        return PairedRow(quantity, _mean(first), _mean(second), None, None, None, "not defined", "")
    differences = [b - a for a, b in pairs]
    mean, low, high = mean_interval(differences, confidence)
    if not any(differences):
        verdict: Verdict = "equal"
    elif len(pairs) == 1:
        verdict = "one seed"
    else:
        verdict = "higher" if low > 0 else "lower" if high < 0 else "not told apart"
    better: Literal["first", "second", ""] = ""
    if verdict in ("higher", "lower"):
        better = "first" if (verdict == "higher") == quantity.more_is_worse else "second"
    known = math.isfinite(low)  # not of a single seed
    return PairedRow(quantity, _mean(first), _mean(second), mean, low if known else None, high if known else None, verdict, better)


def _values(quantity: Quantity, runs: Sequence[Mapping[str, float | None]]) -> list[float | None]:
    return [values[quantity.column] for values in runs]


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence: found {confidence:g}, expected a fraction between 0 and 1, such as 0.95")


def _names(loaded: tuple[Experiment, Experiment]) -> tuple[str, str]:
    first, second = (experiment.name for experiment in loaded)
    return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


def _notes(loaded: tuple[Experiment, Experiment], found: Sequence[Sequence[Mapping[str, float | None]]]) -> list[str]:
    notes = []
    workloads = [experiment.resolved().get("workload") for experiment in loaded]
    if workloads[0] != workloads[1]:
        notes.append("the workloads differ, so equal seeds do not give equal requests: the interval holds, but pairing does not narrow it")
    if len(found[0]) > 1 and all(values == side[0] for side in found for values in side[1:]):
        notes.append("the seed changes nothing in either run: the differences are exact for this workload and tell nothing about chance")
    for experiment, side in zip(loaded, found, strict=True):
        lost = max((values.get("requests") or 0.0) * (1 - (values.get("completed_fraction") or 0.0)) for values in side)
        if lost >= 0.5:
            notes.append(f"{experiment.name}: up to {lost:,.0f} requests of a run did not complete; its latencies are of the others")
    return notes


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _cells(row: PairedRow) -> tuple[str, ...]:
    column = row.quantity.column
    text = milliseconds if column.endswith(("_s", "_s_per_token")) and not column.endswith("_per_s") else number
    if row.difference is None:
        change, relative = "–", "–"
    else:
        change = ("+" if row.difference > 0 else "") + text(row.difference)
        if row.low is not None and row.high is not None and row.low != row.high:
            change += f" ({text(row.low)} to {text(row.high)})"
        relative = f"{100 * row.difference / row.first:+.1f} %" if row.first else "–"
    better = f", {row.better} is better" if row.better else ""
    return (row.quantity.text, text(row.first), text(row.second), change, relative, row.verdict + better)
