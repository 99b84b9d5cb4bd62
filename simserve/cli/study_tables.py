"""Tables of a study: what does not fit beside each other stands below, and no word is broken."""

from __future__ import annotations

from collections.abc import Sequence

_GAP = 1
_NAMES = 0.4
"""Fraction of the width that the columns which name a row may take before they are folded."""


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 1, note: str = "") -> None:
    """Prints rows under headings on stdout. The first `keys` columns name a row: they come again with each block of the others."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    cells = list(zip(*rows, strict=True)) if rows else [() for _ in columns]
    names, figures = list(range(keys)), list(range(keys, len(columns)))
    most = [int(_NAMES * console.width / max(keys, 1)) if number < keys else None for number in range(len(columns))]
    widths = [_width(name, column, bound) for name, column, bound in zip(columns, cells, most, strict=True)]
    for number, block in enumerate(_blocks(names, figures, widths, console.width)):
        if number:
            console.print()
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for at in block:
            table.add_column(columns[at], overflow="fold", width=widths[at], vertical="bottom" if at >= keys else "top")
        for row in rows:
            table.add_row(*(escape(row[at]) for at in block))
        console.print(table)
    if note:
        console.print(escape(note), style="dim", highlight=False)


def _width(name: str, cells: Sequence[str], bound: int | None) -> int:
    """The width of a column: its longest text, or where there is a `bound` that much and no word of the heading broken."""
    heading = max((len(word) for word in name.split()), default=0)
    longest = max((len(text) for text in (name, *cells)), default=0)
    return longest if bound is None else max(heading, min(longest, bound))


def _blocks(names: list[int], figures: list[int], widths: Sequence[int], width: int) -> list[list[int]]:
    """Columns that fit beside each other, each block beginning with the names; at least one figure in each."""
    own = sum(widths[at] + _GAP for at in names)
    blocks, used = [list(names)], own
    for at in figures:
        if used + widths[at] + _GAP > width and len(blocks[-1]) > len(names):
            blocks.append(list(names))
            used = own
        blocks[-1].append(at)
        used += widths[at] + _GAP
    return blocks
