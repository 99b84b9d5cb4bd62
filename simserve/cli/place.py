"""`simserve place`: the best placement of prefill and decode instances."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from simserve.cli.study_output import PRICES

app = typer.Typer()


class _Affinity(StrEnum):
    high = "high"
    low = "low"


class _Kind(StrEnum):
    disaggregated = "disaggregated"
    mixed = "mixed"


@app.command()
def place(
    experiment: Annotated[str, typer.Argument(help="A YAML file, or the name of a bundled experiment.")],
    devices: Annotated[int, typer.Option(help="Devices that a placement may take.")],
    node: Annotated[int, typer.Option(metavar="DEVICES", help="Devices of a node.")] = 8,
    affinity: Annotated[_Affinity, typer.Option(help="low: the network between nodes is too slow for KV.")] = _Affinity.high,
    when: Annotated[
        str | None,
        typer.Option(help="What must hold: 'ttft.p90 <= 0.2 and tpot.p90 <= 0.1'.", show_default="attainment >= 0.99 of its SLO"),
    ] = None,
    only: Annotated[_Kind | None, typer.Option(help="This kind of placement only.", show_default="both")] = None,
    instances: Annotated[int | None, typer.Option(help="Most instances of a pool.", show_default="as the devices allow")] = None,
    rate_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The key that makes the load heavier.", show_default="found in the workload")
    ] = None,
    tolerance: Annotated[str, typer.Option(metavar="FRACTION", help="Of the rate: 5% or 0.05.")] = "5%",
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="LOAD",
            help="Also say how many of the best placement serve this load: 12/s is requests/s, 12x the scale of a trace's own rate, "
            "a number alone what the search counts.",
        ),
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the experiment.")] = None,
    prices: Annotated[Path | None, PRICES] = None,
    jobs: Annotated[int | None, typer.Option(help="Worker processes.", show_default="one for each core")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep finished runs, and write placement.json and best.yaml, here.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted search: finished runs are kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print placement.json, and nothing else, on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Find the placement with the highest load per device at which a predicate holds. Exit code 1: it holds nowhere."""
    from simserve.cli.study_output import check_resume, fraction, kept, load_of, priced, show_frame
    from simserve.progress.study import shown
    from simserve.study.cells import in_order
    from simserve.study.placement.placement import KINDS
    from simserve.study.placement.search import find, specify
    from simserve.study.rate_key import unit

    check_resume(resume, False, out)
    spec = specify(
        experiment,
        devices,
        node_devices=node,
        affinity=affinity.value,
        when=when,
        kinds=KINDS if only is None else (only.value,),
        most_instances=instances,
        rate_key=rate_key,
        tolerance=fraction(tolerance, "--tolerance"),
        changes=priced(changes, prices),
    )
    asked = None if rate is None else load_of(rate, spec.rate_key)
    with kept(out), shown(not quiet) as progress:
        result = find(spec, jobs, out, resume, progress)
    if as_json:
        print(json.dumps(result.as_dict(), indent=2, sort_keys=True, allow_nan=False))
    else:
        print(result.message)
        if result.belief_line:
            print(result.belief_line)
        if asked is not None and (replicas := result.replicas(asked.amount, per_s=asked.per_s)):
            print(f"{replicas} of these serve {asked.amount:g} {asked.unit}, if a router shares them evenly.")
        print(f"holds at, fails at: {unit(spec.rate_key)} a device")
        table = result.frame
        tested = (q.column for q in spec.predicate.quantities)
        figures = in_order((*tested, "ttft_p95_s", "ttft_p99_s", "tpot_p95_s", "tpot_p99_s", "usd_per_million_output_tokens"))
        known = [name for name in figures if name in table.columns and table[name].notna().any()]
        show_frame(table[["placement", "devices", "place", "holds_at", "fails_at", *known]], keys=1)
    if not quiet:
        for note in result.notes:
            print(f"! {note}", file=sys.stderr)
        if out is not None:
            print(f"written to {out}", file=sys.stderr)
    if result.best is None:
        raise typer.Exit(1)
