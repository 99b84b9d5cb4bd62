"""`simserve validate`: predictions against measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Compare predictions with measurements.")


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
) -> None:
    """Error of a hardware profile on measured kernel tables, by operator, type, backend and kind of held-out row."""
    import json

    from simserve.calibration.validate import validate_kernels
    from simserve.cli.tables import show
    from simserve.hardware import load_profile

    result = validate_kernels(load_profile(profile), tables, analytic=analytic)
    if out is not None:
        from simserve.calibration.plots import write_plots

        for path in write_plots(result, out):
            typer.echo(f"wrote {path}", err=True)
    if as_json:
        typer.echo(json.dumps(result.document(), indent=1))
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
