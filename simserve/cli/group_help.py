"""The help of the whole command line. The command framework's own page would load Rich's Markdown and traceback modules for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


def print_help(usage: str, text: str, parameters: Sequence[Any], commands: Sequence[tuple[str, str]]) -> None:
    """Usage, what it is, the options and the commands (name, one line), as the command framework shows those of a single command."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    width = os.environ.get("TERMINAL_WIDTH", "")  # the command framework's own variable
    console = Console(width=int(width) if width.isdigit() else None, highlight=False)
    head = Text(usage, style="bold")
    head.highlight_words(["Usage:"], "yellow")
    console.print(Padding(head, 1))
    console.print(Padding(Text(text), (0, 1, 1, 1)))
    options = []
    for parameter in parameters:
        long, short = (",".join(o for o in parameter.opts if o.startswith("--") is wanted) for wanted in (True, False))
        options.append((Text(long, "bold cyan"), Text(short, "bold green"), Text(parameter.help or "")))
    console.print(_panel("Options", options))
    console.print(_panel("Commands", [(Text(name, "bold cyan"), Text(line)) for name, line in commands]))


def _panel(title: str, rows: Sequence[Sequence[Any]]) -> Any:
    from rich.panel import Panel
    from rich.table import Table

    table = Table(show_header=False, expand=True, box=None, pad_edge=False, padding=(0, 1))
    for _ in rows[0][:-1]:
        table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    for row in rows:
        table.add_row(*row)
    return Panel(table, title=title, title_align="left", border_style="dim")
