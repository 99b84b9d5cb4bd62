"""Results side by side: the same figures of several runs, with differences to the first, and what else differs between the runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from simserve.catalogue import METRICS, OF_REQUESTS, Metric
from simserve.errors import OutputError
from simserve.report.compare.comparable import Comparable, tables
from simserve.report.compare.differences import Difference, differences
from simserve.report.rows import FIGURES, Figure, milliseconds, value_at, with_unit
from simserve.uncertainty.difference import apart

if TYPE_CHECKING:
    import pandas as pd

    from simserve.report.compare.plots import ComparisonPlots


Verdict = Literal["better", "worse", ""]


class Row(NamedTuple):
    """One figure: its value in each run, and each run's difference to the first (empty for the first, and where undefined).

    `verdicts` say which differences of half a per cent (or point) and more are for the better or the worse.
    """

    name: str
    values: tuple[float | None, ...]
    cells: tuple[str, ...]
    changes: tuple[str, ...]
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Comparison:
    """Several runs against the first of them.

    rows         figures over all requests; by_class: a few more for each SLO class that several runs have
    notes        what makes the runs incomparable
    differences  keys of their experiments that are not the same
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    by_class: tuple[tuple[str, tuple[Row, ...]], ...]
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]
    results: tuple[Comparable, ...]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The figures as numbers (seconds, fractions, rates): a row each, a column for each run."""
        import pandas as pd

        return pd.DataFrame({name: [row.values[k] for row in self.rows] for k, name in enumerate(self.names)}, [r.name for r in self.rows])

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON types: values in seconds, fractions and rates, in the order of `names`; None for what a run does not have."""
        return {
            "names": list(self.names),
            "figures": [{"name": row.name, "values": list(row.values)} for row in self.rows],
            "by_class": {name: [{"name": row.name, "values": list(row.values)} for row in rows] for name, rows in self.by_class},
            "notes": list(self.notes),
            "not_told_apart": {
                name: not_told_apart(self.results[0].summary_dict(), result.summary_dict())
                for name, result in zip(self.names[1:], self.results[1:], strict=True)
            },
            "differences": [{"key": each.key, "values": list(each.values)} for each in self.differences],
        }

    @property
    def plot(self) -> ComparisonPlots:
        """Plots of the runs together: each method returns matplotlib axes."""
        from simserve.report.compare.plots import ComparisonPlots

        return ComparisonPlots(self.names, self.results)

    def __repr__(self) -> str:
        return f"Comparison({', '.join(self.names)})"

    def _repr_html_(self) -> str:
        from simserve.report.page import render

        return render("notebook_compare.html.j2", comparison=self, **tables(self.results, self.differences))


def compare(results: Sequence[Comparable | str | Path], names: Sequence[str] = ()) -> Comparison:
    """Compare runs, or the output directories of runs, with the first of them; `names` to use instead of their own.

    Raises OutputError when there is no run, or a directory that holds none.
    """
    from simserve.report.stored import StoredResult

    if not results:
        raise OutputError("compare: no results were given")
    found = tuple(StoredResult(Path(each)) if isinstance(each, str | Path) else each for each in results)
    summaries = [result.summary_dict() for result in found]
    names = tuple(names) or _names(found)
    rows = [_latency_row(summaries, "all", metric, stat) for metric in METRICS for stat in ("mean", "p50", "p95", "p99")]
    rows += [_row(figure, [value_at(s, figure.path) for s in summaries]) for figure in _shown(summaries)]
    return Comparison(
        names,
        _defined(rows),
        tuple(_class_rows(summaries)),
        tuple(_notes(summaries, names)),
        differences([summary["experiment"] for summary in summaries]),
        found,
    )


def _shown(summaries: Sequence[dict[str, Any]]) -> list[Figure]:
    """Those of scaling only where a run scales."""
    scales = any(summary.get("scaling") for summary in summaries)
    return [figure for figure in FIGURES if scales or not figure.scaled]


def _names(results: Sequence[Comparable]) -> tuple[str, ...]:
    """Names of the runs; where two are called the same, those of their directories, numbered if these are equal too."""
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        names = [directory.name if (directory := getattr(result, "directory", None)) else result.name for result in results]
    return tuple(f"{name} [{at + 1}]" if names.count(name) > 1 else name for at, name in enumerate(names))


def _class_rows(summaries: list[dict[str, Any]]) -> Iterator[tuple[str, tuple[Row, ...]]]:
    """The figures of the SLO classes that at least two runs tell apart."""
    classes = dict.fromkeys(name for summary in summaries for name in summary["latency"] if name != "all")
    for name in classes:
        if sum(name in summary["latency"] for summary in summaries) < 2:
            continue
        headlines = [metric for metric in OF_REQUESTS if metric.headline]
        rows = [_latency_row(summaries, name, metric, stat) for metric in headlines for stat in ("p50", "p95", "p99")]
        for figure in _shown(summaries):
            if figure.path[:2] == ("slo", "all"):
                rows.append(_row(figure, [value_at(s, ("slo", name, figure.path[2])) for s in summaries]))
        yield name, _defined(rows)


def _defined(rows: list[Row]) -> tuple[Row, ...]:
    return tuple(row for row in rows if any(value is not None for value in row.values))


def _latency_row(summaries: list[dict[str, Any]], slo_class: str, metric: Metric, stat: str) -> Row:
    path = ("latency", slo_class, metric.name, stat)
    return _row(Figure(path, f"{metric.label} {stat}", "s", metric.better), [value_at(s, path) for s in summaries])


def _row(figure: Figure, values: list[float | None]) -> Row:
    cells = tuple(milliseconds(value) if figure.unit == "s" else with_unit(value, figure.unit) for value in values)
    changes = [""] + [_change(values[0], value, figure.unit) for value in values[1:]]
    verdicts: list[Verdict] = ["", *(_verdict(figure, values[0], value) for value in values[1:])]
    return Row(figure.name, tuple(values), cells, tuple(changes), tuple(verdicts))


def _change(base: float | None, value: float | None, unit: str) -> str:
    """The difference in per cent, from ten times on the factor; for fractions, which are per cent themselves, in points."""
    if base is None or value is None:
        return ""
    if unit == "%":
        return f"{_tenths(100 * (value - base))} pt"
    if base == value:
        return "+0.0 %"
    if not base:
        return "from 0"
    ratio = value / base
    return f"{_tenths(100 * (ratio - 1))} %" if ratio < 10 else f"x {ratio:.3g}"


def _tenths(value: float) -> str:
    """With sign, and +0.0 for what is nothing after rounding."""
    return f"{round(value, 1) + 0.0:+.1f}"


def _verdict(figure: Figure, base: float | None, value: float | None) -> Verdict:
    if not figure.better or base is None or value is None:
        return ""
    size = abs(value - base) if figure.unit == "%" else abs(value - base) / base if base else float(value != base)
    if size < 0.005:
        return ""
    return "better" if (value > base) == (figure.better == "higher") else "worse"


def _notes(summaries: list[dict[str, Any]], names: tuple[str, ...]) -> Iterator[str]:
    """One sentence for each thing to know, with all the runs of which it is true."""
    true_of: dict[tuple[str, str, str], list[str]] = {}

    def add(name: str, one: str, several: str, rest: str) -> None:
        true_of.setdefault((one, several, rest), []).append(name)

    first = summaries[0]
    for summary, name in zip(summaries[1:], names[1:], strict=True):
        for what, paths in _SAME.items():
            changed = [".".join(path) for path in paths if _at(summary, path) != _at(first, path)]
            if changed:
                add(name, "differs", "differ", f"from {names[0]} in {what} ({', '.join(changed)})")
        if _profiles(first) != _profiles(summary):
            rest = f"on other profiles or models than {names[0]}: absolute figures have different calibrations"
            add(name, "rests", "rest", rest)
    for summary, name in zip(summaries, names, strict=True):
        if summary["saturation"]["saturated"]:
            add(name, "is", "are", "saturated: latencies depend on how long the run was")
    for summary, name in zip(summaries, names, strict=True):
        if summary["unvalidated"]:
            add(name, "rests", "rest", f"on parts that are not validated: {', '.join(summary['unvalidated'])}")
    for summary, name in zip(summaries[1:], names[1:], strict=True):
        if figures := not_told_apart(first, summary):
            rest = f"from {names[0]} by less than the error that does not cancel between them in {', '.join(figures)}"
            add(name, "differs", "differ", rest)
    for (one, several, rest), who in true_of.items():
        if 1 < len(names) == len(who):
            yield f"All {several} {rest}."
        else:
            yield f"{', '.join(who)} {one if len(who) == 1 else several} {rest}."


def not_told_apart(first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Headlines that differ by half a per cent or more, and by less than the 80 % error of such a difference; empty where runs have no
    intervals."""
    found = []
    for metric in METRICS:
        for stat in ("mean", "p99") if metric.headline else ():
            one = apart(first, other, f"{metric.quantity}.{stat}")
            if one is not None and not one.told and abs(one.log_ratio) >= _NO_DIFFERENCE:
                found.append(
                    f"{metric.label} {stat} ({100 * (math.exp(one.log_ratio) - 1):+.0f} %, error {100 * (math.exp(one.half) - 1):.0f} %)"
                )
    return found


_NO_DIFFERENCE = 0.005
"""ln of a ratio below which figures count as equal, as in the verdicts of rows."""


_SAME: dict[str, tuple[tuple[str, ...], ...]] = {
    "the workload": (("workload",), ("experiment", "workload")),
    "the seed": (("experiment", "seed"),),
    "the measured window's cuts": (("experiment", "metrics"),),
    "the SLO": (("experiment", "slo"),),
    "the version of simserve": (("simserve_version",),),
}


def _at(summary: dict[str, Any], path: tuple[str, ...]) -> Any:
    node: Any = summary
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _profiles(summary: dict[str, Any]) -> list[Any]:
    """The cost models of a run, each once: groups that differ in policy or role rest on the same one."""
    costs: list[Any] = []
    for group in summary["simulated"]:
        if group["cost"] not in costs:
            costs.append(group["cost"])
    return costs
