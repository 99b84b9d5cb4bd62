"""`simserve validate`: predictions against measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simserve.cli.validate_schedule import schedule

app = typer.Typer(no_args_is_help=True, help="Compare predictions with measurements.")
app.command()(schedule)


@app.callback()
def _group() -> None:
    """Compare predictions with measurements."""


@app.command()
def kernels(
    profile: Annotated[str, typer.Argument(help="Name of a bundled hardware profile, or the path of a profile.")],
    tables: Annotated[Path, typer.Argument(help="Directory of measured kernel tables.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for plots and the predictions of every row.")] = None,
    analytic: Annotated[bool, typer.Option("--analytic", help="Judge the analytic estimates instead of the fitted models.")] = False,
    backend: Annotated[
        str | None, typer.Option("--backend", help="Transfer: predict what other backends measured with this one's models.")
    ] = None,
) -> None:
    """Error of a hardware profile on measured kernel tables, by operator, type, backend and kind of held-out row."""
    import json

    from simserve.calibration.validate import validate_kernels
    from simserve.cli.tables import show
    from simserve.hardware import load_profile

    result = validate_kernels(load_profile(profile), tables, analytic=analytic, backend=backend)
    if out is not None:
        from simserve.calibration.plots import write_plots

        for path in write_plots(result, out):
            typer.echo(f"wrote {path}", err=True)
    if as_json:
        typer.echo(json.dumps(result.document(), indent=1))
        _end(result.unreadable)
        return
    rows = []
    for group in result.groups():
        numbers = [group[k] for k in ("mape_percent", "p90_percent", "worst_percent", "bias_percent")]
        cells = ["-" if v is None else f"{v:.1f}" for v in numbers]
        rows.append(
            (*(group[k] for k in ("operator", "dtype", "backend", "heldout_kind")), f"{group['rows']:,}", f"{group['skipped']:,}", *cells)
        )
    show(("operator", "dtype", "backend", "held out", "rows", "skipped", "MAPE %", "p90 %", "worst %", "bias %"), rows)
    for reason, count in sorted(result.skipped_reasons.items()):
        typer.echo(f"skipped {count:,}: {reason}")
    for reason in result.unreadable.values():
        typer.echo(f"not read: {reason}")
    _end(result.unreadable)


@app.command()
def serving(
    measurements: Annotated[Path, typer.Argument(help="Directory (or one file) of results of load generators (JSON), or of tables.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the grouped errors as JSON on stdout.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for plots, grouped errors and the predictions of every row.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Only the file of this name, without suffix.")] = None,
    part: Annotated[str, typer.Option("--part", help="all, fit (overheads are learned from them) or check (kept for judging).")] = "all",
    readers: Annotated[
        str | None,
        typer.Option("--readers", metavar="MODULE", help="Module with readers of tables; benchmarks.measured_runs in a checkout."),
    ] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep predictions between calls.")] = True,
    hardware: Annotated[str | None, typer.Option("--hardware", help="Hardware profile of results that do not name their device.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model of results that do not name one simserve knows.")] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="Engine profile of results that do not name their engine.")] = None,
    tp: Annotated[int, typer.Option("--tp", min=1, help="Tensor-parallel degree of results that do not name it.")] = 1,
    budget: Annotated[bool, typer.Option("--budget", help="Also say how much of the worst errors is steps and how much queueing.")] = False,
) -> None:
    """Error of simulated runs against measured ones, by engine, device, model and metric; rows that cannot be simulated by reason.

    Exit code 1 when a file of a directory could not be read: the others are judged all the same.
    """
    import json

    from simserve.cli.serving_tables import show_budgets, show_validation
    from simserve.progress.count import counting
    from simserve.validation.prediction_cache import cache_folder
    from simserve.validation.readers import readers_of
    from simserve.validation.readers.client_results import completed_by
    from simserve.validation.validate import chosen_part, validate_serving

    told = completed_by(hardware=hardware, model=model, engine=engine, tp=tp)
    with counting("runs simulated") as progress:
        result = validate_serving(
            measurements,
            dataset=dataset,
            part=chosen_part(part),
            readers=readers_of(readers) if readers else (),
            cache=cache_folder() if cache else None,
            prepare=told,
            progress=progress,
        )
    if out is not None:
        for path in result.write(out):
            typer.echo(f"wrote {path}", err=True)
    if as_json:
        typer.echo(json.dumps(result.document(), indent=1))
    else:
        show_validation(result)
        if budget:
            show_budgets(result)
    _end(result.unreadable)


def _end(unreadable: dict[str, str]) -> None:
    """Exit code 1 when a file could not be read."""
    if unreadable:
        typer.echo(f"{len(unreadable)} of the files could not be read; the figures are without them", err=True)
        raise typer.Exit(1)
