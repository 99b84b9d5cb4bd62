"""The comparison on a terminal: as many runs beside the first as fit, the others in tables below it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simserve.report.compare.comparable import Comparable
from simserve.report.compare.comparison import Comparison, compare
from simserve.report.terminal import natural_width

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

_SHORTEST_HEADER = 12


def compare_table(results: Sequence[Comparable]) -> RenderableType:
    """Results side by side; each after the first with its difference to the first. Notes say what else differs."""
    return _ByWidth(compare(results))


class _ByWidth:
    """Decides at print time, when the width is known, how many runs stand beside each other."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield from self._tables(console, options)
        for note in self._comparison.notes:
            yield Text(f"! {note}", style="yellow")

    def _tables(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        others = list(range(1, len(self._comparison.names)))
        if not others:
            yield _table(self._comparison, [0])
        while others:
            size = len(others)
            while size > 1 and natural_width(_table(self._comparison, [0, *others[:size]]), console, options) > options.max_width:
                size -= 1
            yield _table(self._comparison, [0, *others[:size]])
            others = others[size:]


def _table(comparison: Comparison, runs: Sequence[int]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    texts = [[_cell(row.cells[run], row.changes[run]) for row in comparison.rows] for run in runs]
    for run, cells in zip(runs, texts, strict=True):
        widest = max([len(cell) for cell in cells], default=0)
        table.add_column(Text(folded(comparison.names[run], max(widest, _SHORTEST_HEADER))), justify="right", no_wrap=True)
    for row, *cells in zip(comparison.rows, *texts, strict=True):
        table.add_row(row.name, *cells)
    return table


def _cell(value: str, change: str) -> str:
    return f"{value} ({change})" if change else value


def folded(name: str, width: int) -> str:
    """The name in lines of at most so many characters, broken between its parts (after - _ . / and spaces) and never inside a word."""
    lines = [""]
    for part in re.findall(r"[^-_./ ]*[-_./ ]*", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip(" ") for line in lines)
