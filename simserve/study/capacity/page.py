"""The page of a capacity search: the answer, what limits it, the plots, and every run that was made."""

from __future__ import annotations

from collections.abc import Iterator

from simserve.report.charts import drawings
from simserve.report.page import render
from simserve.report.rows import number
from simserve.study.capacity.charts import charts
from simserve.study.capacity.result import CapacityResult
from simserve.study.cells import Cell, breakable, cells, headings, in_order
from simserve.study.rate_key import unit

_SHOWN = (
    "ttft_p50_s", "ttft_p95_s", "ttft_p99_s", "tpot_p50_s", "tpot_p95_s", "tpot_p99_s", "attainment", "goodput_per_s",
    "output_tokens_per_s", "kv_used_max", "usd_per_hour", "usd_per_million_output_tokens", "kwh_per_million_output_tokens",
)  # fmt: skip


def capacity_page(result: CapacityResult) -> str:
    """The search as one self-contained page."""
    frame = result.frame
    wanted = in_order([*(quantity.column for quantity in result.predicate.quantities), *_SHOWN])
    columns = ["rate", "seed", "holds", *(name for name in wanted if name in frame.columns and frame[name].notna().any())]
    what = unit(result.rate_key)
    titles = headings(columns)
    titles[0] = f"load, {what}"
    rows = cells(frame[columns])
    return render(
        "capacity.html.j2",
        name=result.name,
        message=result.message,
        notes=result.notes,
        facts=list(_facts(result, what)),
        searches=[(r.seed, r.outcome, number(r.low), number(r.high)) for r in result.replicates],
        headings=titles,
        probes=list(zip(_plain(rows), frame["reasons"].tolist(), strict=True)),
        **drawings(lambda: charts(result), result.plot.figures),
    )


def _plain(rows: list[list[Cell]]) -> list[list[Cell]]:
    """A seed is a name, not a quantity: without separators."""
    return [[row[0], Cell(f"{row[1].value:.0f}", row[1].value), *row[2:]] for row in rows]


def _facts(result: CapacityResult, what: str) -> Iterator[tuple[str, str]]:
    yield "Capacity", "–" if result.rate is None else f"{result.rate:.4g} {what}"
    if result.interval is not None:
        low, high = result.interval
        yield "95 % confidence", f"{max(low, 0):.4g} to {high:.4g}"
    yield "Predicate", result.predicate.text
    yield "What is raised", breakable(result.rate_key)
    yield "Tolerance", f"{100 * result.tolerance:.3g} %"
    yield "Searches", number(len(result.replicates))
    yield "Runs", number(len(result.probes))
