"""`simserve fit-engine`: an engine profile's overheads from one load sweep of your own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def fit_engine(
    measurements: Annotated[Path, typer.Argument(help="Directory (or one file) of results of load generators (JSON), or of tables.")],
    engine: Annotated[str, typer.Option("--engine", help="Engine profile to start from: its scheduler, cache rules and flags are kept.")],
    hardware: Annotated[str | None, typer.Option("--hardware", help="Hardware profile that the runs were made on.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model that was served, where the results do not name it.")] = None,
    tp: Annotated[int, typer.Option("--tp", min=1, help="Tensor-parallel degree, where the results do not name it.")] = 1,
    readers: Annotated[
        str | None,
        typer.Option("--readers", metavar="MODULE", help="Module with readers of tables; benchmarks.measured_runs in a checkout."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the engine profile here (.yaml); an experiment's `engine` can name it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was learned as JSON, and nothing else, on stdout.")] = False,
) -> None:
    """Learn host and request-path overheads by least squares, so that simulated runs meet measured ones.

    Overheads that the runs cannot identify keep the profile's value. A fit that explains nothing, or ends where no engine is, is an error
    and writes nothing. From five runs on, each fifth of them is predicted with what the others teach, and the new profile carries those
    errors: they decide whether it counts as validated.
    """
    from functools import partial

    from simserve.cli.serving_tables import show_fit
    from simserve.config import engine_profile
    from simserve.config.held_out import LEAST_RUNS
    from simserve.errors import ConfigError, OutputError
    from simserve.validation.engine_file import with_overheads
    from simserve.validation.fit import fit_overheads
    from simserve.validation.held_out import Folds, by_folds, with_record
    from simserve.validation.readers import read_measurements, readers_of
    from simserve.validation.readers.client_results import completed_by

    base = engine_profile.find(engine)
    if out is not None and out.exists():
        raise OutputError(f"{out} exists already; choose another name")
    found = read_measurements(measurements, readers=readers_of(readers) if readers else ())
    for reason in found.unreadable.values():
        typer.echo(f"not read: {reason}", err=True)
    cases = completed_by(hardware=hardware, model=model, engine=engine, tp=tp)(found.cases)
    cases = [case for case in cases if case.profile == engine or case.skip]
    result = fit_overheads(cases, only_identified=True, progress=lambda line: typer.echo(line, err=True))
    if as_json:
        typer.echo(json.dumps(result.document(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        show_fit(engine, result)
    if result.refusal:
        advice = "check that the results are of this engine, model, device and tensor-parallel degree, and that their load is as it was"
        raise ConfigError(f"these are not overheads of an engine: {result.refusal}; nothing was written ({advice})")
    if out is not None:
        provenance = f"least squares on {result.rows} measured rows of {result.runs} runs in {measurements.name}, errors in sample"
        if result.kept:
            provenance += f"; kept from {engine}, because not identified, {', '.join(result.kept)}"
        written = with_overheads(base.read_text(encoding="utf-8"), result.overheads, provenance, name=out.stem)
        folds = by_folds(cases, partial(fit_overheads, only_identified=True)) if result.runs >= LEAST_RUNS else Folds(None)
        out.write_text(with_record(written, folds.found, str(out)), encoding="utf-8")
        for reason in folds.failed:
            typer.echo(f"a part of the runs teaches nothing: {reason}", err=True)
        told = engine_profile.load_engine(str(out)).verdict
        few = f" ({result.runs} runs, {LEAST_RUNS} are needed to hold some out)" if folds.found is None else ""
        typer.echo(f"wrote {out}; {'validated' if told.validated else 'not validated'}: {told.words}{few}", err=True)
