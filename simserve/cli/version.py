"""`simserve version`."""

from __future__ import annotations

import typer

from simserve.version import __version__

app = typer.Typer()


@app.command()
def version() -> None:
    """Print the version."""
    print(f"simserve {__version__}")
