"""Plain tables of the listing commands: they fold at any width and keep no borders, so that they can be piped. The same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def as_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """Prints rows as a JSON list of objects on stdout, and nothing else."""
    print(json.dumps(list(rows), indent=2, ensure_ascii=False, allow_nan=False))


def show(columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> None:
    """Prints rows under headings on stdout; the first column is never folded."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        table.add_column(name, no_wrap=position == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console()
    console.print(table)
    if note:
        console.print(escape(note), style="dim", highlight=False)
