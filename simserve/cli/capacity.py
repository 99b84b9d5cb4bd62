"""`simserve capacity`: the highest load at which a predicate holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from simserve.cli.study_output import PRICES

app = typer.Typer()


@app.command()
def capacity(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or the name of a bundled experiment.")],
    when: Annotated[
        str | None,
        typer.Option(help="What must hold: 'ttft.p99 <= 2.0 and tpot.p99 <= 0.1'.", show_default="attainment >= 0.99 of its SLO"),
    ] = None,
    rate_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The key that makes the load heavier.", show_default="found in the workload")
    ] = None,
    tolerance: Annotated[str, typer.Option(metavar="FRACTION", help="Of the answer: 2% or 0.02.")] = "2%",
    replicates: Annotated[int | None, typer.Option(help="Searches with different seeds.", show_default="3")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="A,B,...", help="Instead of --replicates: the seeds themselves.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the experiment.")] = None,
    variant: Annotated[str | None, typer.Option(metavar="NAME", help="Which variant, where the experiment has several.")] = None,
    prices: Annotated[Path | None, PRICES] = None,
    jobs: Annotated[int | None, typer.Option(help="Worker processes.", show_default="one for each core")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the probes, plots and capacity.json here.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue what lies in --out: probes that are there are not run again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what lies in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print capacity.json, and nothing else, on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Find the highest load at which a predicate holds and the queue does not grow."""
    from simserve.cli.study_output import check_resume, fraction, kept, priced, show_frame, whole_numbers
    from simserve.progress.study import shown
    from simserve.study.base import VARIANT
    from simserve.study.capacity.result import CAPACITY
    from simserve.study.capacity.search import believed, find, specify
    from simserve.study.cells import in_order
    from simserve.study.folder import opened
    from simserve.study.rate_key import unit

    check_resume(resume, force, out)
    spec = specify(
        experiment,
        when,
        changes=priced(changes, prices) | ({} if variant is None else {VARIANT: variant}),
        rate_key=rate_key,
        tolerance=fraction(tolerance, "--tolerance"),
        replicates=replicates,
        seeds=whole_numbers(seeds, "--seeds"),
    )
    cache = None if out is None else opened(out, "capacity search", CAPACITY, resume=resume, force=force)
    with kept(out), shown(not quiet) as progress:
        result = believed(spec, find(spec, jobs, progress, cache))
    if out is not None:
        result.write(out)
    if as_json:
        print(json.dumps(result.as_dict(), indent=2, sort_keys=True, allow_nan=False))
    else:
        print(result.message)
        if result.belief_line:
            print(result.belief_line)
        tested = (q.column for q in spec.predicate.quantities)
        columns = in_order(
            ("ttft_p95_s", "ttft_p99_s", "tpot_p95_s", "tpot_p99_s", *tested, "goodput_per_s", "usd_per_million_output_tokens")
        )
        table = result.frame
        print(f"load: {unit(spec.rate_key)}")
        table = table[["rate", "seed", "holds", *(c for c in columns if c in table and table[c].notna().any()), "stable"]]
        show_frame(table.rename(columns={"rate": "load"}), keys=2)
    if not quiet:
        for note in result.notes:
            print(f"! {note}", file=sys.stderr)
        if out is not None:
            print(f"written to {out}", file=sys.stderr)
