"""The page of a placement search: the answer, the placements side by side, what ends each, what could not be run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from simserve.report.charts import drawings
from simserve.report.page import render
from simserve.report.rows import number
from simserve.study.cells import breakable, cells, headings, in_order
from simserve.study.placement.charts import charts
from simserve.study.placement.figures import told_apart
from simserve.study.placement.result import PlacementResult
from simserve.study.rate_key import unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_BARS = 24
_NAMES = ("placement", "devices", "place", "holds_at", "fails_at")
_SHOWN = (
    "ttft_p50_s",
    "ttft_p95_s",
    "ttft_p99_s",
    "tpot_p50_s",
    "tpot_p95_s",
    "tpot_p99_s",
    "attainment",
    "arrivals_per_s",
    "usd_per_million_output_tokens",
    "kwh_per_million_output_tokens",
)


def placement_page(result: PlacementResult) -> str:
    """The search as one self-contained page."""
    frame = result.frame
    wanted = [*_NAMES, *in_order([*(quantity.column for quantity in result.predicate.quantities), *_SHOWN])]
    columns = [name for name in wanted if name in _NAMES or (name in frame.columns and frame[name].notna().any())]
    return render(
        "placement.html.j2",
        name=result.name,
        message=result.message,
        notes=result.notes,
        facts=list(_facts(result)),
        headings=headings(columns),
        placements=list(zip(cells(frame[columns]), frame["fails_because"].tolist(), strict=True)) if len(frame) else [],
        errors=[(str(t.placement), t.error) for t in result.tried if t.error is not None],
        **drawings(lambda: charts(result, [name for name in columns if name not in ("placement", "place")]), lambda: _figures(result)),
    )


def _facts(result: PlacementResult) -> Iterator[tuple[str, str]]:
    best = result.best
    yield "Best", "–" if best is None else str(best.placement)
    if best is not None and best.low is not None:
        yield "Load a device", f"{best.low:.4g} {unit(result.rate_key)}"
        yield "Not told from it", number(len(result.ties))
    yield "Predicate", result.predicate.text
    yield "What is raised", breakable(result.rate_key)
    yield "Tolerance", f"{100 * result.tolerance:.3g} %"
    yield "Placements", number(len(result.tried))
    yield "Runs", number(sum(t.probes for t in result.tried))
    yield "Loads refused without a run", number(sum(t.bounded for t in result.tried))


def _figures(result: PlacementResult) -> Iterator[tuple[str, str, Figure]]:
    """Loads per device: a bar up to what was seen to hold, a line on to what was seen to fail."""
    from simserve.report.plots.style import COLOURS, figure_of, one, style

    shown = [t for t in result.ranked if t.error is None and (t.low or t.high)][:_MOST_BARS]
    if not shown:
        return
    best = result.best
    with style():
        ax = one(None, (7.6, 1.2 + 0.32 * len(shown)))
        for row, tried in enumerate(reversed(shown)):
            leads = best is not None and not told_apart(best, tried) and tried.low is not None
            low = tried.low or 0.0
            ax.barh(row, low, height=0.6, color=COLOURS[0] if leads else "#b9c5d0")
            if tried.high is not None:
                ax.plot([low, tried.high], [row, row], color="#444444", linewidth=1.0, marker="|", markersize=7)
        ax.set_yticks(range(len(shown)), [str(t.placement) for t in reversed(shown)])
        ax.set_xlabel(f"load a device, {unit(result.rate_key)}")
        ax.set_xlim(left=0)
        ax.grid(visible=False, axis="y")
    caption = "Load a device of each placement: the bar ends where it was last seen to hold, the line where it was seen to fail. "
    yield "placements", caption + "In colour: the best, and those that the search does not tell from it.", figure_of(ax)
