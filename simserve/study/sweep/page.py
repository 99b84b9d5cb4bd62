"""The page of a sweep: the best points, its plots, what has no figures and why, and a table of all points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from simserve.report.charts import drawings
from simserve.report.page import render
from simserve.study.cells import Cell, cells, headings
from simserve.study.labels import short
from simserve.study.sweep.best import best_points
from simserve.study.sweep.charts import charts
from simserve.study.sweep.result import SweepResult

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = (
    "ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "tpot_p50_s", "tpot_p95_s", "tpot_p99_s", "e2e_p95_s", "e2e_p99_s",
    "attainment", "goodput_per_s", "output_tokens_per_s",
    "kv_used_max", "preemptions", "saturated",
)  # fmt: skip
_MOST_POINTS = 2000
_MOST_ERRORS = 50


class Error(NamedTuple):
    """An error, how many runs have it, and the keys of the first of them."""

    runs: int
    status: str
    error: str
    at: list[str]


def sweep_page(result: SweepResult) -> str:
    """The sweep as one self-contained page."""
    points = result.by_point
    keys = result.shown_keys
    names = {key: short(result.frame[key].dropna().unique().tolist()) for key in dict.fromkeys((*keys, *result.keys))}
    figures = result.with_figures(_SHOWN)
    columns = [*keys, "runs", *figures]
    best = best_points(points, keys, names)
    errors = _errors(result, names)
    return render(
        "sweep.html.j2",
        name=f"{result.name}: sweep",
        sentence=_sentence(result),
        notes=result.notes,
        keys=headings(keys),
        best=best,
        named=_named(result, names),
        errors=errors[:_MOST_ERRORS],
        more_errors=max(0, len(errors) - _MOST_ERRORS),
        headings=headings(columns),
        points=_rows(points.head(_MOST_POINTS), columns, names),
        table_note=_table_note(len(points)),
        chart_note=_chart_note(len(points)),
        **drawings(lambda: charts(points.head(_MOST_POINTS), keys, names), lambda: result.plot.figures() if len(points) else ()),
    )


def _sentence(result: SweepResult) -> str:
    runs, points = len(result.frame), result.frame["point"].nunique()
    seeds = result.about.get("seeds") or []
    over = ", ".join(result.shown_keys) or "seeds"
    text = f"{runs:,} run{'s' if runs != 1 else ''}: {points:,} point{'s' if points != 1 else ''} over {over}"
    if len(seeds) > 1:
        text += f", each with {len(seeds)} seeds (the figures are means over them)"
    fewer = int((result.by_point["runs"] < len(seeds)).sum())
    if fewer:
        text += f". Not every seed has figures at {fewer:,} of the points: the means there are over fewer runs"
    counts = result.frame["status"].value_counts()
    bad = [f"{int(counts[status]):,} {status}" for status in ("failed", "invalid") if status in counts]
    return f"{text}. {', '.join(bad)}: without figures." if bad else f"{text}. All runs have figures."


def _table_note(points: int) -> str:
    kept = f"The first {_MOST_POINTS:,} of {points:,} points; the others are in sweep.parquet." if points > _MOST_POINTS else ""
    return kept or "A row a point; every figure of every run is in sweep.parquet."


def _chart_note(points: int) -> str:
    kept = f"The first {_MOST_POINTS:,} of {points:,} points. " if points > _MOST_POINTS else ""
    return f"{kept}A point shows the figures of its runs."


def _named(result: SweepResult, names: dict[str, dict[Any, str]]) -> list[tuple[str, str]]:
    """What each named point changes; empty for a sweep whose points have no names."""
    if result.shown_keys == result.keys:
        return []
    rows = result.frame.drop_duplicates("point")
    others = [key for key in result.keys if key not in result.shown_keys]
    called = [" ".join(str(value) for value in of) for of in rows[list(result.shown_keys)].itertuples(index=False, name=None)]
    told = [
        ", ".join(f"{key}={_key(value, names[key])}" for key, value in zip(others, of, strict=True) if not _missing(value))
        for of in rows[others].itertuples(index=False, name=None)
    ]
    return list(zip(called, told, strict=True))


def _errors(result: SweepResult, names: dict[str, dict[Any, str]]) -> list[Error]:
    """The errors, the most frequent first."""
    groups = result.failures.groupby(["status", "error"], sort=True, dropna=False)
    rows = [
        Error(len(of), str(status), str(error), [_key(of[key].iloc[0], names[key]) for key in result.shown_keys])
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
    return "–" if _missing(value) else names[value]


def _missing(value: Any) -> bool:
    return value is None or value != value
