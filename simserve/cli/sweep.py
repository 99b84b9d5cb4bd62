"""`simserve sweep`: an experiment over many values of its keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from simserve.cli.study_output import PRICES

app = typer.Typer()


@app.command()
def sweep(
    source: Annotated[str, typer.Argument(metavar="SWEEP|EXPERIMENT", help="A sweep file, an experiment's YAML file or a bundled name.")],
    over: Annotated[
        list[str] | None,
        typer.Option("--over", metavar="KEY=A,B,...", help="A key and its values, or KEY={low: 1, high: 8, steps: 4, scale: log}."),
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key at every point.")] = None,
    method: Annotated[str | None, typer.Option(help="grid, random or latin-hypercube.", show_default="grid")] = None,
    sample: Annotated[int | None, typer.Option(help="Points of a random or latin-hypercube sample.")] = None,
    sample_seed: Annotated[int | None, typer.Option(help="Seed of the sample.", show_default="0")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="A,B,...", help="Seeds: every point is run with each.")] = None,
    replicates: Annotated[int | None, typer.Option(help="Instead of --seeds: so many from the experiment's own on.")] = None,
    limit: Annotated[int | None, typer.Option(help="Refuse more runs than this.", show_default="100,000")] = None,
    backend: Annotated[str, typer.Option(help="joblib (this machine), ray or dask.")] = "joblib",
    prices: Annotated[Path | None, PRICES] = None,
    jobs: Annotated[int | None, typer.Option(help="Worker processes.", show_default="one for each core")] = None,
    address: Annotated[str | None, typer.Option(help="A running Ray or Dask cluster.", show_default="a local one")] = None,
    out: Annotated[Path | None, typer.Option(help="Output directory.", show_default="out/<name>-sweep")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted sweep: finished runs are kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every run with its figures as JSON, and nothing else, on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Run an experiment over values of its keys: a table on the terminal, and one Parquet file. Exit code 1: no run has figures."""
    from simserve.cli.study_output import kept, priced, show_frame, whole_numbers
    from simserve.progress.study import shown
    from simserve.study.sweep import axes
    from simserve.study.sweep.run import Execution, run_sweep, specify

    spec = specify(
        source,
        changes=priced(changes, prices),
        axes=[axes.option(text) for text in over or []],
        method=method,
        sample=sample,
        sample_seed=sample_seed,
        seeds=whole_numbers(seeds, "--seeds"),
        replicates=replicates,
        limit=limit,
    )
    target = out if out is not None else Path("out") / f"{spec.name}-sweep"
    with kept(target), shown(not quiet) as progress:
        result = run_sweep(spec, Execution(backend, jobs, address, target, resume), progress)
    if as_json:
        print(json.dumps(result.as_dict(), indent=2, sort_keys=True, allow_nan=False))
    else:
        show_frame(result.shown(), keys=len(result.shown_keys))
    failed = len(result.failures) == len(result.frame)
    errors = result.failures["error"].value_counts()  # said even when asked to be quiet: the table does not show them
    for error, count in list(errors.items())[:10]:
        print(f"! {count:,} {'runs have' if count > 1 else 'run has'} no figures: {error}", file=sys.stderr)
    if not quiet:
        for note in result.notes:
            print(f"! {note}", file=sys.stderr)
        print(f"written to {target}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)
