"""Tables for the terminal, from 60 to 200 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from simserve.catalogue import METRICS
from simserve.report.believed import STATS as BELIEF_STATS
from simserve.report.believed import belief_line, belief_rows, figures
from simserve.report.cluster_rows import SINGLE_ROWS, cluster_facts, cluster_head, cluster_rows
from simserve.report.compare.comparable import Comparable
from simserve.report.rows import (
    INTERVAL_STATS,
    STATS,
    interval_figures,
    interval_note,
    interval_rows,
    milliseconds,
    outcome,
    stack,
)
from simserve.report.scaling.words import facts

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table
    from rich.text import Text

_MISSED_LEAST = ("p90", "mean", "p50")
_ANY_WIDTH = 10_000
_CHANGES = 12
_LEFT_OUT_FIRST = ("KV mean", "served", "prefills", "tokens", "KV max", "moved out", "moved in", "busy")


class _ByWidth:
    """Decides at print time, when the width is known, which columns fit."""

    def __init__(self, summary: dict[str, Any]) -> None:
        self._summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        summary = self._summary
        yield Text(summary["name"], style="bold")
        for line in stack(summary):
            yield Text(line)
        yield Text(outcome(summary))
        for slo_class, latency in summary["latency"].items():
            yield _widest((latency_table(slo_class, latency, stats) for stats in _fewer(STATS)), console, options)
        yield _widest((figure_table(summary, columns) for columns in (2, 1)), console, options)
        if summary.get("cluster"):
            yield cluster_table(summary, options.max_width)
            for name, text in cluster_facts(summary):
                yield Text(f"{name}: {text}")
        if scaling := summary.get("scaling"):
            yield scaling_table(scaling["log"], options.max_width)
            for name, text in facts(summary):
                yield Text(f"{name}: {text}")
        if line := belief_line(summary):
            yield Text()
            yield Text(line)
            if belief_rows(summary):
                yield _widest((belief_table(summary, stats) for stats in (BELIEF_STATS, ("mean", "p99"), ("mean",))), console, options)
        if note := interval_note(summary):
            yield Text()
            yield Text(note)
            yield _widest((interval_table(summary, stats) for stats in _fewer(INTERVAL_STATS)), console, options)
            yield Text(", ".join(f"{name} {band}" for name, band in interval_figures(summary)))
        for warning in summary["warnings"]:
            yield Text(f"! {warning}", style="yellow")


def summary_table(result: Comparable) -> RenderableType:
    """The result as tables for a rich console; fewer columns on a narrow one."""
    return _ByWidth(result.summary_dict())


def latency_table(slo_class: str, latency: dict[str, dict[str, float | None]], stats: Sequence[str]) -> Table:
    """Latency metrics (rows) by statistic (columns)."""
    from rich import box
    from rich.table import Table

    title = None if slo_class == "all" else f"class {slo_class}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("latency", no_wrap=True)
    for stat in stats:
        table.add_column(stat, justify="right", no_wrap=True)
    for metric in METRICS:
        if metric.name in latency:  # a stored run may be older than the metric
            table.add_row(*plain(metric.label, *(milliseconds(latency[metric.name][stat]) for stat in stats)))
    return table


def figure_table(summary: dict[str, Any], columns: int) -> Table:
    """Rates, utilisation and queue, in one or two pairs of columns. What is not defined is left out."""
    from rich.table import Table

    shown = figures(summary)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(columns):
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
    rows = -(-len(shown) // columns)
    for number in range(rows):
        cells = [shown[at] if at < len(shown) else ("", "") for at in range(number, rows * columns, rows)]
        table.add_row(*plain(*(text for cell in cells for text in cell)))
    return table


def cluster_table(summary: dict[str, Any], width: int) -> Table:
    """Instances (rows), many equal ones in one row; of the columns as many as fit."""
    from rich import box
    from rich.table import Table

    lines = [cluster_head(summary), *cluster_rows(summary, SINGLE_ROWS)]
    columns = list(zip(*lines, strict=True))
    if all(cell == "mixed" for cell in columns[1][1:]):
        columns.pop(1)
    for name in _LEFT_OUT_FIRST:
        if sum(max(map(len, column)) + 3 for column in columns) > width:
            columns = [column for column in columns if column[0] != name]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column[0], justify="left" if column[0] in ("instance", "role") else "right", no_wrap=True)
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*plain(*row))
    return table


def scaling_table(log: dict[str, Any], width: int) -> Table:
    """The first changes of the scaling log; on a narrow terminal without the counts."""
    from rich import box
    from rich.table import Table

    shown, columns = log["rows"][:_CHANGES], range(len(log["head"]))
    left = len(log["rows"]) - len(shown) + log["left_out"]
    if sum(max(len(row[at]) for row in [log["head"], *shown]) + 3 for at in columns) > width:
        columns = range(4)
    caption = f"{left:,} more changes in scaling.parquet" if left else None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    for at in columns:
        words = at in (1, 2)
        table.add_column(log["head"][at], justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for row in shown:
        table.add_row(*plain(*(row[at] for at in columns)))
    return table


def belief_table(summary: dict[str, Any], stats: Sequence[str]) -> Table:
    """Latency metrics (rows) by statistic (columns), each with its interval."""
    return _by_statistic("80 % interval", stats, belief_rows(summary, stats))


def interval_table(summary: dict[str, Any], stats: Sequence[str]) -> Table:
    """Bands of the latency metrics (rows) by statistic (columns)."""
    return _by_statistic("band", stats, interval_rows(summary, stats))


def _by_statistic(head: str, stats: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(head, no_wrap=True)
    for stat in stats:
        table.add_column(stat, justify="right", no_wrap=True)
    for label, cells in rows:
        table.add_row(*plain(label, *cells))
    return table


def plain(*cells: str) -> Iterator[Text]:
    """Cells as they are: of a string Rich would look for markup each time that it measures it."""
    from rich.text import Text

    return map(Text, cells)


def _widest(tables: Iterable[Table], console: Console, options: ConsoleOptions) -> Table:
    """The first of the tables that fits the console, or else the last."""
    for table in tables:
        if natural_width(table, console, options) <= options.max_width:
            break
    return table


def natural_width(table: Table, console: Console, options: ConsoleOptions) -> int:
    """Columns of the terminal that the table takes where nothing folds."""
    return console.measure(table, options=options.update(width=_ANY_WIDTH)).maximum


def _fewer(stats: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The statistics, and then without one after the other of those that are missed least: percentiles stay."""
    kept = list(stats)
    yield tuple(kept)
    for name in _MISSED_LEAST:
        if name in kept:
            kept.remove(name)
            yield tuple(kept)
