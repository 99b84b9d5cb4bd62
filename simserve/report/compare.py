"""Results side by side: the same figures of several runs, with differences to the first, and what else differs between the runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from simserve.errors import OutputError
from simserve.report.rows import FIGURES, LATENCY_NAMES, milliseconds, value_at, with_unit


class HasSummary(Protocol):
    """A Result or a StoredResult."""

    @property
    def name(self) -> str: ...

    def summary_dict(self) -> dict[str, Any]: ...


class Row(NamedTuple):
    """One figure: its value in each run, and each run's difference to the first (empty for the first, and where undefined)."""

    name: str
    values: tuple[float | None, ...]
    cells: tuple[str, ...]
    changes: tuple[str, ...]


class Comparison(NamedTuple):
    """names of the runs, rows of figures, notes on what makes the runs incomparable or different."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def compare(results: Sequence[HasSummary]) -> Comparison:
    """Compare runs with the first of them. Raises OutputError when there is none."""
    if not results:
        raise OutputError("compare: no results were given")
    summaries = [result.summary_dict() for result in results]
    rows = [_row(f"{label} {stat}", [value_at(s, ("latency", "all", metric, stat)) for s in summaries], None)
            for metric, label in LATENCY_NAMES.items() for stat in ("mean", "p50", "p99")]  # fmt: skip
    rows += [_row(figure.name, [value_at(s, figure.path) for s in summaries], figure.unit) for figure in FIGURES]
    return Comparison(
        _names(results), tuple(row for row in rows if any(v is not None for v in row.values)), tuple(_notes(summaries, _names(results)))
    )


def compare_html(results: Sequence[HasSummary]) -> str:
    """The comparison as one self-contained HTML page."""
    from simserve.report.html import comparison_page

    return comparison_page(compare(results), [result.summary_dict() for result in results])


def _names(results: Sequence[HasSummary]) -> tuple[str, ...]:
    """Names of the runs; where two are called the same, those of their directories, numbered if these are equal too."""
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        names = [directory.name if (directory := getattr(result, "directory", None)) else result.name for result in results]
    return tuple(f"{name} [{at + 1}]" if names.count(name) > 1 else name for at, name in enumerate(names))


def _row(name: str, values: list[float | None], unit: str | None) -> Row:
    cells = tuple(milliseconds(value) if unit is None else with_unit(value, unit) for value in values)
    changes = [""] + [_change(values[0], value, unit) for value in values[1:]]
    return Row(name, tuple(values), cells, tuple(changes))


def _change(base: float | None, value: float | None, unit: str | None) -> str:
    """The difference in per cent; for shares, which are per cent themselves, in points."""
    if base is None or value is None:
        return ""
    if unit == "%":
        return f"{100 * (value - base):+.1f} pt"
    if base == value:
        return "+0.0 %"
    return f"{100 * (value - base) / base:+.1f} %" if base else "from 0"


def _notes(summaries: list[dict[str, Any]], names: tuple[str, ...]) -> Iterator[str]:
    first = summaries[0]
    for summary, name in zip(summaries[1:], names[1:], strict=True):
        for what, paths in _SAME.items():
            changed = [".".join(path) for path in paths if _at(summary, path) != _at(first, path)]
            if changed:
                yield f"{name} differs from {names[0]} in {what} ({', '.join(changed)})."
        base, other = _profiles(first), _profiles(summary)
        if base != other:
            yield f"{name} rests on other profiles or models than {names[0]}: their absolute figures have different calibrations."
    for summary, name in zip(summaries, names, strict=True):
        if summary["saturation"]["saturated"]:
            yield f"{name} is saturated: its latencies depend on how long it ran."
        missing = summary["unvalidated"]
        if missing:
            yield f"{name} rests on parts that are not validated: {', '.join(missing)}."


_SAME: dict[str, tuple[tuple[str, ...], ...]] = {
    "its workload": (("workload",), ("experiment", "workload")),
    "its seed": (("experiment", "seed"),),
    "the measured window's cuts": (("experiment", "metrics"),),
    "its SLO": (("experiment", "slo"),),
    "the version of simserve": (("simserve_version",),),
}


def _at(summary: dict[str, Any], path: tuple[str, ...]) -> Any:
    node: Any = summary
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _profiles(summary: dict[str, Any]) -> list[Any]:
    return [group["cost"] for group in summary["simulated"]]
