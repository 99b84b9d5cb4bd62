"""`simserve compare`: results side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def compare(
    results: Annotated[list[Path], typer.Argument(help="Output directories of `simserve run`; differences are against the first.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Show results side by side, with differences in percent."""
    from simserve.report.result import Result

    if as_json:
        from simserve.report.compare.comparison import compare as side_by_side

        print(json.dumps(side_by_side([Result.read(path) for path in results]).as_dict(), indent=2, allow_nan=False))
        return
    from rich.console import Console

    from simserve.report.compare.terminal import compare_table

    Console().print(compare_table([Result.read(path) for path in results]))
