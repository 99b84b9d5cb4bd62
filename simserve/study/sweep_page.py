"""The page of a sweep: the best points, its plots, what has no figures and why, and a table of all points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simserve.report.page import pictures, render
from simserve.study.cells import Cell, cells, figure, heading, headings, texts
from simserve.study.labels import short
from simserve.study.sweep_result import SweepResult

if TYPE_CHECKING:
    import pandas as pd

_OBJECTIVES = (
    ("ttft_p99_s", "lowest"),
    ("tpot_p99_s", "lowest"),
    ("e2e_p99_s", "lowest"),
    ("attainment", "highest"),
    ("goodput_per_s", "highest"),
    ("output_tokens_per_s", "highest"),
    ("joules_per_output_token", "lowest"),
)
_SHOWN = (
    "ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s", "e2e_p99_s", "attainment", "goodput_per_s", "output_tokens_per_s",
    "kv_used_max", "preemptions", "saturated",
)  # fmt: skip
_MOST_POINTS = 2000
_FEW = 40
_MOST_ERRORS = 50


class Best(NamedTuple):
    """The point at which a figure is best: its value there, the worst value of all points, the values of the keys."""

    name: str
    best: str
    worst: str
    at: list[str]


class Error(NamedTuple):
    """An error, how many runs have it, and the keys of the first of them."""

    runs: int
    status: str
    error: str
    at: list[str]


def sweep_page(result: SweepResult) -> str:
    """The sweep as one self-contained page."""
    points = result.by_point
    names = {key: short(result.frame[key].dropna().unique().tolist()) for key in result.keys}
    figures = [name for name in _SHOWN if name in points.columns and points[name].notna().any()]
    columns = [*result.keys, "runs", *figures]
    errors = _errors(result, names)
    return render(
        "sweep.html.j2",
        name=f"{result.name}: sweep",
        sentence=_sentence(result),
        notes=result.notes,
        keys=headings(result.keys),
        best=_best(points, result.keys, names),
        errors=errors[:_MOST_ERRORS],
        more_errors=max(0, len(errors) - _MOST_ERRORS),
        headings=headings(columns),
        points=_rows(points.head(_MOST_POINTS), columns, names),
        table_note=_table_note(len(points)),
        plots=pictures(result.plot.figures()) if len(points) else [],
    )


def fragment(result: SweepResult) -> str:
    """The keys and a few figures of the first points: what a notebook shows."""
    table = result.shown()
    columns = list(table.columns)
    rows, more = texts(table.head(_FEW)), max(0, len(table) - _FEW)
    return render("notebook_table.html.j2", sentence=repr(result), headings=headings(columns), rows=rows, more=more, notes=result.notes)


def _sentence(result: SweepResult) -> str:
    runs, points = len(result.frame), result.frame["point"].nunique()
    seeds = result.about.get("seeds") or []
    text = f"{runs:,} run{'s' if runs != 1 else ''}: {points:,} point{'s' if points != 1 else ''} over {', '.join(result.keys) or 'seeds'}"
    if len(seeds) > 1:
        text += f", each with {len(seeds)} seeds (the figures are means over them)"
    counts = result.frame["status"].value_counts()
    bad = [f"{int(counts[status]):,} {status}" for status in ("failed", "invalid") if status in counts]
    return f"{text}. {', '.join(bad)}: without figures." if bad else f"{text}. All runs have figures."


def _table_note(points: int) -> str:
    kept = f"The first {_MOST_POINTS:,} of {points:,} points; the others are in sweep.parquet." if points > _MOST_POINTS else ""
    return kept or "A row a point; every figure of every run is in sweep.parquet."


def _best(points: pd.DataFrame, keys: tuple[str, ...], names: dict[str, dict[Any, str]]) -> list[Best]:
    """One entry for each figure that is not the same everywhere."""
    rows = []
    for column, which in _OBJECTIVES:
        known = points[points[column].notna()] if column in points.columns else points.iloc[:0]
        values = known[column].to_numpy(dtype=np.float64) if len(known) else np.empty(0)
        if len(values) < 2 or values.min() == values.max():
            continue
        low, high = int(values.argmin()), int(values.argmax())
        best, worst = (low, high) if which == "lowest" else (high, low)
        at = [_key(known[key].iloc[best], names[key]) for key in keys]
        rows.append(Best(f"{which} {heading(column)}", figure(column, values[best]), figure(column, values[worst]), at))
    return rows


def _errors(result: SweepResult, names: dict[str, dict[Any, str]]) -> list[Error]:
    """The errors, the most frequent first."""
    groups = result.failures.groupby(["status", "error"], sort=True, dropna=False)
    rows = [
        Error(len(of), str(status), str(error), [_key(of[key].iloc[0], names[key]) for key in result.keys])
        for (status, error), of in groups
    ]
    return sorted(rows, key=lambda row: -row.runs)


def _rows(points: pd.DataFrame, columns: list[str], names: dict[str, dict[Any, str]]) -> list[list[Cell]]:
    rows = []
    table = points[columns]
    for row, values in zip(cells(table), table.itertuples(index=False), strict=True):
        rows.append([Cell(_key(v, names[c]), of.value) if c in names else of for c, v, of in zip(columns, values, row, strict=True)])
    return rows


def _key(value: Any, names: dict[Any, str]) -> str:
    return "–" if value is None or value != value else names[value]
