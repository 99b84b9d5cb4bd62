"""`simserve hardware`: the bundled hardware profiles."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def hardware(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False) -> None:
    """List the bundled hardware profiles."""
    from simserve import resources
    from simserve.cli import tables
    from simserve.hardware import load_profile

    profiles = {name: load_profile(name) for name in resources.available("hardware_profiles")}
    if as_json:
        tables.as_json(
            {
                "profile": name,
                "description": profile.document.description,
                "device": profile.device.model_dump(mode="json"),
                "fitted_operators": len(profile.entries()),
            }
            for name, profile in profiles.items()
        )
        return
    rows = []
    for name, profile in profiles.items():
        device = profile.device
        memory, rate = f"{device.hbm_bytes / 2**30:.0f}", f"{device.hbm_bytes_per_s / 1e12:.2f}"
        peak = device.peak_flops_per_s.get("bf16") or device.peak_flops_per_s.get("fp16") or 0.0
        rows.append((name, device.vendor, memory, rate, f"{peak / 1e12:.0f}", str(len(profile.entries()))))
    tables.show(
        ("profile", "vendor", "memory GiB", "TB/s", "16-bit TFLOP/s", "fitted operators"),
        rows,
        "A path to a profile's YAML file works too.",
    )
