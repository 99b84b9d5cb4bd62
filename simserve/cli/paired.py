"""`simserve paired`: two configurations over the same seeds."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def paired(
    first: Annotated[str, typer.Argument(help="A YAML file, or the name of a bundled experiment.")],
    second: Annotated[str | None, typer.Argument(help="The other one.", show_default="the first, changed by --set-second")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of both.")] = None,
    of_second: Annotated[list[str] | None, typer.Option("--set-second", metavar="KEY=VALUE", help="Change a key of the second.")] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Figures: ttft.p99,goodput.", show_default="TTFT, TPOT, throughput, SLO")
    ] = None,
    replicates: Annotated[int | None, typer.Option(help="Seeds from the first experiment's own on.", show_default="5")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="A,B,...", help="Instead of --replicates: the seeds themselves.")] = None,
    confidence: Annotated[str, typer.Option(metavar="FRACTION", help="Of the intervals: 95% or 0.95.")] = "95%",
    jobs: Annotated[int | None, typer.Option(help="Worker processes.", show_default="one for each core")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON, and nothing else, on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Compare two configurations seed by seed: the mean difference of each figure, its confidence interval, and a verdict."""
    from simserve.cli.study_output import changed, fraction, whole_numbers
    from simserve.cli.study_tables import show
    from simserve.errors import ConfigError
    from simserve.progress.study import shown
    from simserve.study.base import base
    from simserve.study.paired import HEADINGS, METRICS, find

    if second is None and not of_second:
        raise ConfigError("name a second experiment, or say how it differs from the first with --set-second KEY=VALUE")
    common = changed(changes)
    ours, theirs = base(first, common), base(second or first, {**common, **changed(of_second)})
    asked = METRICS if metrics is None else [text.strip() for text in metrics.split(",")]
    level = fraction(confidence, "--confidence")
    names = None if second is not None else (first, ", ".join(of_second or ()))
    with shown(not quiet) as progress:
        found = find(ours, theirs, asked, replicates, whole_numbers(seeds, "--seeds"), level, names, jobs, progress)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2, sort_keys=True, allow_nan=False))
    else:
        count = len(found.seeds)
        print(f"first: {found.names[0]}\nsecond: {found.names[1]}")
        print(f"{count} paired seed{'s' if count != 1 else ''}, {100 * level:g} % intervals of the mean difference")
        known = [row for row, of in zip(found.cells(), found.rows, strict=True) if of.first is not None or of.second is not None]
        show(HEADINGS, known)
    if not quiet:
        for note in found.notes:
            print(f"! {note}", file=sys.stderr)
