"""`simserve calibrate`: from measured tables to a hardware profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make the numbers true for your machine.")


@app.callback()
def _group() -> None:
    """Make the numbers true for your machine."""


@app.command()
def fit(
    tables: Annotated[Path, typer.Argument(help="Directory of measured kernel tables.")],
    out: Annotated[Path, typer.Option("--out", help="Profile to write (.yaml); its coefficients go to a folder beside it.")],
    facts: Annotated[str, typer.Option("--facts", help="Profile (name or path) whose device facts are used.")],
    also: Annotated[
        list[str] | None, typer.Option("--also", help="More tables, for some operators only: DIR or DIR=operator,operator. Repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the new profile (default: the file's).")] = None,
) -> None:
    """Fit every operator found in the tables and report the error on rows held out from the fit."""
    from simserve.calibration.build import build_profile
    from simserve.errors import ConfigError
    from simserve.hardware.operators import OPERATORS
    from simserve.hardware.profile import load_profile

    sources: list[tuple[Path, frozenset[str] | None]] = [(tables, None)]
    for text in also or []:
        folder, _, wanted = text.partition("=")
        operators = frozenset(o for o in wanted.split(",") if o)
        unknown = sorted(operators - set(OPERATORS))
        if unknown:
            raise ConfigError(f"--also {text}: unknown operator {', '.join(unknown)}; known: {', '.join(sorted(OPERATORS))}")
        sources.append((Path(folder), operators or None))
    profile, left_out = build_profile(load_profile(facts).path, sources, out, lambda line: typer.echo(line, err=True), name=name)
    typer.echo(f"wrote {out}: {len(profile.entries())} fitted operators")
    for reason, rows in sorted(left_out.items()):
        typer.echo(f"left out {rows:,} rows: {reason}")
