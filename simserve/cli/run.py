"""`simserve run`: simulate an experiment and write its result."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simserve.cli import completion
from simserve.cli.study_output import PRICES

if TYPE_CHECKING:
    from simserve.report.result import Result

app = typer.Typer()


@app.command()
def run(
    experiment: Annotated[
        str, typer.Argument(help="A YAML file, or the name of a bundled experiment.", autocompletion=completion.experiments)
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key: workload.trace.rate_scale=4.", autocompletion=completion.changes),
    ] = None,
    prices: Annotated[Path | None, PRICES] = None,
    out: Annotated[Path | None, typer.Option(help="Output directory.", show_default="out/<name>")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and nothing else, on stdout.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Verify the invariants while running (slower).")] = False,
    intervals: Annotated[
        int | None,
        typer.Option(
            "--intervals",
            metavar="DRAWS",
            help="Repeat the run with steps as fast or slow as measured errors allow (try 20): a band on every headline.",
        ),
    ] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Also write timeline.json for Perfetto.")] = False,
    steps: Annotated[bool, typer.Option("--steps", help="Also write steps.parquet.")] = False,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Write no plots.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes on stderr.")] = False,
) -> None:
    """Simulate an experiment: a table on the terminal, and a directory with summary, requests, plots and a report."""
    from simserve import api
    from simserve.cli.failures import ResultIsThereError, result_is_in
    from simserve.cli.output import beside, kept, staged
    from simserve.config.experiment import load
    from simserve.progress.run import shown
    from simserve.report.files import REQUESTS

    wanted = {"timeline=true": timeline, "steps=true": steps, "plots=false": no_plots, "report=false": no_report}
    changes = [*(changes or []), *([] if prices is None else [f"prices.file={prices.resolve()}"])]
    draws = [f"intervals={intervals}"] if intervals is not None else []
    loaded = load(experiment, [*changes, *draws, *(f"output.{text}" for text, asked in wanted.items() if asked)])
    target = out if out is not None else Path("out") / loaded.name
    if loaded.spec.variants:
        from simserve.cli.claims import run_claims

        run_claims(
            experiment, [*changes, *draws], target, loaded.spec.output.model_dump(), force=force, as_json=as_json, check=check, quiet=quiet
        )
        return
    with staged(target, force=force) as folder, beside(folder) as part:
        with shown(not quiet) as progress, kept(target, part):
            result = api.run(loaded, progress=progress or False, check=check, intervals=0, requests_file=part)
        if loaded.spec.intervals:
            from simserve.study.intervals import bands, steps_of

            result.intervals = bands(loaded, loaded.spec.intervals, not quiet, steps=steps_of(result))
        output, problem = loaded.spec.output.model_dump(), None
        if result.in_pieces:
            with kept(target, part, folder / REQUESTS):
                result.write(folder, **output | {"plots": False, "report": False})
            problem = _drawn(result, folder, output)
        else:
            if output["plots"] or output["report"]:
                from simserve.report.plots.style import load_matplotlib

                load_matplotlib()
            result.write(folder, **output)
    if problem is not None:
        raise ResultIsThereError(target, problem, without="plots and report") from problem
    with result_is_in(target):
        if as_json:
            print(json.dumps(result.summary_dict(), indent=2, sort_keys=True, allow_nan=False))
        else:
            from rich.console import Console

            from simserve.report.terminal import summary_table

            Console().print(summary_table(result))
        if not quiet:
            print(f"written to {target}", file=sys.stderr)


def _drawn(result: Result, folder: Path, output: dict[str, Any]) -> BaseException | None:
    """Draws plots and report of a run that has taken long, and all of which is written but these; returns what ended that."""
    try:
        if output["plots"] or output["report"]:
            from simserve.report.plots.style import load_matplotlib

            load_matplotlib()
            result.draw(folder, plots=output["plots"], report=output["report"])
    except BaseException as problem:  # Ctrl-C above all
        return problem
    return None
