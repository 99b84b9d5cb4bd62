"""`simserve hardware`: the bundled hardware profiles."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command()
def hardware() -> None:
    """List the bundled hardware profiles."""
    from simserve import resources
    from simserve.cli.tables import show
    from simserve.hardware import load_profile

    rows = []
    for name in resources.available("hardware_profiles"):
        device = load_profile(name).device
        rows.append((name, device.name))
    show(("profile", "device"), rows, "A path to a profile's YAML file works too.")
