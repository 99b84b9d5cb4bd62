"""The page of a plan search: the answer, charts, the plans side by side, each plan in detail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simserve.report.charts import drawings
from simserve.report.page import render
from simserve.report.rows import number, with_unit
from simserve.study.cells import cells, figure, headings
from simserve.study.labels import title
from simserve.study.plan.charts import charts, pictures_of
from simserve.study.plan.figures import Ends, Outcome
from simserve.study.plan.result import PlanResult
from simserve.study.plan.words import price

_MOST_ROWS = 200
_MOST_DETAILS = 60


def plan_page(result: PlanResult) -> str:
    """The search as one self-contained page."""
    frame = result.frame
    names = [one.name for one in result.shown][:_MOST_ROWS]
    table = frame[frame["plan"].isin(names)]
    limited = [limit.quantity.column for limit in result.limits]
    columns = ["plan", "devices", "usd_per_hour", "head_room", *dict.fromkeys((*limited, *result.figures_shown))]
    columns = [name for name in columns if name == "plan" or (name in table and table[name].notna().any())]
    return render(
        "plan.html.j2",
        name=result.name,
        message=result.message,
        notes=result.notes,
        effort=result.effort,
        facts=list(_facts(result)),
        launch=result.launch,
        **drawings(lambda: charts(result), lambda: pictures_of(result)),
        headings=headings(columns),
        plans=list(zip(cells(table[columns]), table["fate"].tolist(), table["why"].tolist(), strict=True)) if len(table) else [],
        details=list(_details(result)),
    )


def _facts(result: PlanResult) -> Iterator[tuple[str, str]]:
    best = result.best
    yield "Deploy", "–" if best is None else best.name
    if best is not None:
        yield "Price", price(best)
        per_token = best.values.get("usd_per_million_output_tokens")
        if per_token is not None:
            yield "Per million output tokens", with_unit(per_token, "USD")
        if best.head_room is not None:
            yield "Head-room at best", with_unit(best.head_room, "%")
        if best.verification is not None and best.verification.label:
            yield "How far to believe it", best.verification.label
    if result.load:
        yield "Load", result.load
    yield "Must hold", result.predicate.text
    yield "Plans", number(len(result.outcomes))
    yield "Runs", number(result.runs)
    yield "Prices as of", str(result.prices.get("as_of", "–"))


def _details(result: PlanResult) -> Iterator[dict[str, Any]]:
    shown = {id(one) for one in result.shown[:_MOST_DETAILS]}
    best, columns = result.best, result.figures_shown
    for place, one in enumerate(result.outcomes):
        if id(one) in shown:
            yield {"id": place, "name": one.name, "fate": str(one.fate), "open": one is best, "facts": list(_of_plan(one, columns))}


def _of_plan(one: Outcome, shown: Sequence[str]) -> Iterator[tuple[str, str]]:
    if one.why:
        yield "why", one.why
    yield "price", price(one)
    yield "hardware", one.hardware
    for pool in one.pools:
        ranks = ", ".join(f"{key} {value}" for key, value in pool.items() if key not in ("role", "count") and value != 1)
        yield f"{pool['role']} instances", f"{pool['count']}{f', each {ranks}' if ranks else ''}"
    if one.utilisation is not None:
        yield "utilisation at best", with_unit(one.utilisation, "%")
    verification = one.verification
    if verification is not None:
        yield "verified on seeds", ", ".join(str(seed) for seed in verification.seeds)
        for text in verification.doubtful:
            yield "inside its error", text
        if verification.reason:
            yield "how far to believe it", verification.reason
    ends = {} if verification is None else verification.ends
    for column in dict.fromkeys((*ends, *shown)):
        value = one.values.get(column)
        if value is not None:
            yield title(column), _with_interval(column, value, ends.get(column))


def _with_interval(column: str, value: float, ends: Ends | None) -> str:
    text = figure(column, value)
    if ends is None:
        return text
    low, high = ends.widest
    what = "80 %, with the model's own error" if ends.with_model is not None else "80 %, of chance"
    return f"{text} ({figure(column, low)} to {figure(column, high)}; {what})"
