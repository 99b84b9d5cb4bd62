"""`simserve regress`: hold a suite against its recorded baselines."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def regress(
    suite: Annotated[Path, typer.Argument(help="The suite's YAML file.")],
    update: Annotated[bool, typer.Option("--update", help="Record the figures as new baselines and show what changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, and nothing else, on stdout.")] = False,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a summary for a pull request.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show the figures that are in their bands, too.")] = False,
    jobs: Annotated[int | None, typer.Option(help="Worker processes.", show_default="one for each core")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Check a suite of workloads and policies against its baselines. Exit code 1: something became worse; 2: bad input."""
    from simserve.progress.study import shown
    from simserve.report.files import write_whole
    from simserve.study.regress.check import regress as check

    with shown(not quiet) as progress:
        report = check(suite, update=update, jobs=jobs, progress=progress or False)
    if markdown is not None:
        write_whole(markdown, lambda part: part.write_text(report.markdown(), encoding="utf-8"))
    print(json.dumps(report.as_dict(), indent=2, sort_keys=True, allow_nan=False) if as_json else report.text(every))
    if update and not quiet:
        print(f"written to {report.suite.baseline}", file=sys.stderr)
    raise typer.Exit(report.exit_code)
