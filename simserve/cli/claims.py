"""Runs an experiment with variants and shows its claims beside what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simserve.config.experiment import Experiment
    from simserve.report.result import Result
    from simserve.study.claims.check import ClaimsReport, Outcome


def run_claims(
    source: str, changes: list[str], target: Path, output: dict[str, bool], *, force: bool, as_json: bool, check: bool, quiet: bool
) -> None:
    """`simserve run` for an experiment with variants: a folder per variant, the claims on the terminal or as JSON."""
    from simserve import api
    from simserve.cli.failures import result_is_in
    from simserve.cli.output import staged
    from simserve.progress.run import shown
    from simserve.study.claims.check import check_claims

    def one(experiment: Experiment) -> Result:
        if not quiet:
            print(experiment.name, file=sys.stderr)
        with shown(not quiet) as progress:
            return api.run(experiment, progress=progress or False, check=check)

    with staged(target, force=force) as folder:
        report = check_claims(source, changes, run=one)
        report.write(folder, **output)
    with result_is_in(target):
        if as_json:
            print(json.dumps(report.as_dict(), indent=2, sort_keys=True, allow_nan=False))
        else:
            show_claims(report)
        if not quiet:
            print(f"written to {target}", file=sys.stderr)


def show_claims(report: ClaimsReport) -> None:
    """The table: claim, published, ours, band, in or out."""
    from rich.console import Console

    console = Console()
    if report.paper:
        console.print(f"[bold]{report.paper['title']}[/bold] ({report.paper['reference']})", highlight=False)
        if report.paper["setting"]:
            console.print(report.paper["setting"], highlight=False)
    show_outcomes(report.outcomes)
    show_counts(report.outcomes)


def show_counts(outcomes: Sequence[Outcome]) -> None:
    """How many are within their bands, a line for each kind of claim: kinds are never added up."""
    from simserve.study.claims import kinds

    for line in kinds.lines(outcomes):
        print(line)


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """A row for each claim: published, ours, band, in or out, and whether it was fitted, an identity or a flag; then notes on those out."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from simserve.study.claims import kinds
    from simserve.study.claims.markdown import band_text, ours_text

    if not outcomes:
        return
    console = Console()
    table = Table(box=box.SIMPLE_HEAD)
    rows = []
    for outcome in outcomes:
        published = "" if outcome.published is None else f"{outcome.published:.4g}"
        rows.append((published, ours_text(outcome), band_text(outcome.low, outcome.high)))
    table.add_column("claim", overflow="fold", min_width=12)
    for at, heading in enumerate(("published", "ours", "band")):  # on several lines where they must, but between figures only
        longest = max(len(word) for row in [*rows, (heading,) * 3] for word in row[at].split() or [""])
        table.add_column(heading, justify="right", no_wrap=at == 0, min_width=longest)
    table.add_column("", no_wrap=True, min_width=3)
    marked = any(kinds.mark(outcome.kind) for outcome in outcomes)
    if marked:
        table.add_column("", no_wrap=True, min_width=max(len(kinds.mark(outcome.kind)) for outcome in outcomes))
    for outcome, cells in zip(outcomes, rows, strict=True):
        verdict = "in" if outcome.reproduced else "[bold]out[/bold]"
        table.add_row(outcome.claim, *cells, verdict, *([kinds.mark(outcome.kind)] if marked else []))
    console.print(table)
    for outcome in outcomes:
        if outcome.note and not outcome.reproduced:
            console.print(f"{outcome.claim}: {outcome.note}", highlight=False, markup=False)
