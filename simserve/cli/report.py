"""`simserve report`: results as a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def report(
    outputs: Annotated[
        list[Path],
        typer.Argument(metavar="OUT...", help="Output directories: one of run, sweep, capacity or place; or several runs to compare."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page to write.", show_default="report.html in it; comparison.html beside several"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is not a report.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes on stderr.")] = False,
) -> None:
    """Write a page of one result, a comparison, a sweep, a capacity or a placement search: one HTML file that opens offline."""
    from simserve.report.page import write_page
    from simserve.study.report import report as made

    page = made(outputs)
    target = out if out is not None else page.place
    write_page(target, page.html, force=force or (out is None and page.own))
    if not quiet:
        if page.note:
            print(f"! {page.note}", file=sys.stderr)
        print(f"written to {target}", file=sys.stderr)
