"""`simserve experiments`: the bundled experiments."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def experiments() -> None:
    """List the bundled experiments; `simserve run NAME` runs one."""
    from simserve import resources
    from simserve.cli.tables import show
    from simserve.config.yamlfile import read

    rows = []
    for name in resources.available("experiments"):
        data = read(resources.find("experiments", name)).data
        rows.append((name, str(data.get("description", ""))))
    show(("experiment", "what it shows"), rows)
