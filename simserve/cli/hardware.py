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
        profile = load_profile(name)
        device = profile.device
        memory, rate = f"{device.hbm_bytes / 2**30:.0f}", f"{device.hbm_bytes_per_s / 1e12:.2f}"
        peak = device.peak_flops_per_s.get("bf16") or device.peak_flops_per_s.get("fp16") or 0.0
        rows.append((name, device.vendor, memory, rate, f"{peak / 1e12:.0f}", str(len(profile.entries()))))
    show(
        ("profile", "vendor", "memory GiB", "TB/s", "16-bit TFLOP/s", "fitted operators"),
        rows,
        "A path to a profile's YAML file works too.",
    )
