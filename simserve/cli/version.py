"""`simserve version`."""

from __future__ import annotations

import typer

from simserve.compiled import engine_build
from simserve.version import __version__

app = typer.Typer()


@app.command()
def version() -> None:
    """Print the version, and whether the engine is compiled."""
    print(f"simserve {__version__}")
    print(f"engine: {engine_build()}")
