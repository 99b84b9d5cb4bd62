"""What a terminal of a given width shows."""

from __future__ import annotations

import io

from rich.console import Console


def printed(renderable, width: int) -> str:
    """The text of anything rich can print, without colours."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()
