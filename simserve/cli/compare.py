"""`simserve compare`: results side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def compare(
    results: Annotated[list[Path], typer.Argument(help="Output directories of `simserve run`; differences are against the first.")],
) -> None:
    """Show results side by side, with differences in percent."""
    from rich.console import Console

    from simserve.report.result import Result
    from simserve.report.terminal import compare_table

    Console().print(compare_table([Result.read(path) for path in results]))
