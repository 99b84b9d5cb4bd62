"""`simserve plan`: the cheapest deployment that meets an SLO."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simserve.cli.study_output import PRICES

if TYPE_CHECKING:
    from simserve.study.plan.result import PlanResult

app = typer.Typer()


@app.command()
def plan(
    experiment: Annotated[
        str, typer.Argument(help="A YAML file, or the name of a bundled experiment; its `plan` section says what to try.")
    ],
    when: Annotated[
        str | None,
        typer.Option(help="What a plan must meet: 'ttft.p99 <= 2.0 and tpot.p99 <= 0.1'.", show_default="attainment >= 0.99 of its SLO"),
    ] = None,
    devices: Annotated[int | None, typer.Option(help="Most devices of a plan.", show_default="8, or what the money allows")] = None,
    usd: Annotated[float | None, typer.Option("--usd-per-hour", metavar="USD", help="Most that a plan may cost an hour.")] = None,
    hardware: Annotated[str | None, typer.Option(metavar="A,B,...", help="Hardware profiles.", show_default="the experiment's")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key: plan.max_num_seqs=[64, 256].")
    ] = None,
    prices: Annotated[Path | None, PRICES] = None,
    limit: Annotated[int | None, typer.Option(help="Refuse more plans than this.", show_default="20,000")] = None,
    backend: Annotated[str, typer.Option(help="joblib (this machine), ray or dask.")] = "joblib",
    jobs: Annotated[int | None, typer.Option(help="Worker processes.", show_default="one for each core")] = None,
    address: Annotated[str | None, typer.Option(help="A running Ray or Dask cluster.", show_default="a local one")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep finished runs, and write plan.json and best.yaml, here.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted search: finished runs are kept.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what lies in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print plan.json, and nothing else, on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Find the cheapest deployment that meets an SLO under the experiment's load. Exit code 1: none within the budget does."""
    from simserve.cli.launch_output import show_launch
    from simserve.cli.study_output import check_resume, kept, priced
    from simserve.deploy.result import FOLDER
    from simserve.progress.study import shown
    from simserve.study.plan.runs import Execution
    from simserve.study.plan.search import find, specify

    check_resume(resume, force, out)
    stated: dict[str, Any] = {
        "plan.budget.devices": devices,
        "plan.budget.usd_per_hour": usd,
        "plan.hardware": None if hardware is None else [name.strip() for name in hardware.split(",")],
        "plan.limit": limit,
    }
    given = {key: value for key, value in stated.items() if value is not None}
    spec = specify(experiment, when, priced(changes, prices) | given)
    if not quiet:
        print(spec.preview, file=sys.stderr)
    with kept(out), shown(not quiet) as progress:
        result = find(spec, Execution(backend, jobs, address, out, resume, force), progress)
    if as_json:
        print(json.dumps(result.as_dict(), indent=2, sort_keys=True, allow_nan=False))
    else:
        _show(result)
        if result.launch is not None:
            show_launch(result.launch, None if out is None else out / FOLDER, quiet=quiet)
    if not quiet:
        print(f"{result.effort}", file=sys.stderr)
        for note in result.notes:
            print(f"! {note}", file=sys.stderr)
        if out is not None:
            print(f"written to {out}", file=sys.stderr)
    if result.best is None:
        raise typer.Exit(1)


def _show(result: PlanResult) -> None:
    """The answer, and a table of the plans that were simulated in full with the nearest of the others."""
    from simserve.cli.study_output import show_frame
    from simserve.study.quantities import SCALED

    print(result.message)
    names = {one.name for one in result.shown}
    table = result.frame
    table = table[table["plan"].isin(names)]
    limited = [limit.quantity.column for limit in result.limits]
    scaled = [name for name in result.figures_shown if name in SCALED]
    wanted = dict.fromkeys(
        (*limited, "ttft_p99_s", "tpot_p99_s", "usd_per_million_output_tokens", "kwh_per_million_output_tokens", *scaled)
    )
    columns = [name for name in dict.fromkeys(("usd_per_hour", "head_room", *wanted)) if name in table and table[name].notna().any()]
    shown = table[["plan", "devices", *columns, "fate"]]
    show_frame(shown, keys=1)
    for one in result.shown:
        if one.why:
            print(f"{one.name}: {one.why}")
