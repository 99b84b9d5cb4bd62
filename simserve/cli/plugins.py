"""`simserve plugins`: what installed packages add, and whether it can be loaded."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """List the policies, cost models, metrics and trace formats that installed packages add, with the package each comes from."""
    from simserve.cli import tables
    from simserve.errors import SimserveError
    from simserve.plugins import KINDS, found

    rows = []
    for group, kind in KINDS.items():
        for plugin in found(group).values():
            try:
                plugin.load()
                problem = ""
            except SimserveError as error:
                problem = str(error)
            rows.append((kind, plugin.name, plugin.package or "unknown", plugin.point.value, problem))
    if as_json:
        tables.as_json(dict(zip(("kind", "name", "package", "place", "problem"), row, strict=True)) for row in rows)
    elif rows:
        tables.show(("kind", "name", "package", "place", "problem"), rows)
    else:
        print(f"No installed package adds anything. Entry points: {', '.join(KINDS)}")
