"""`simserve hardware`: the bundled hardware profiles, and what one of them knows of its operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from simserve.hardware import HardwareProfile

app = typer.Typer()


@app.command()
def hardware(
    name: Annotated[
        str | None, typer.Argument(help="A profile, or a path to its YAML file: what stands behind each of its operators.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
) -> None:
    """List the bundled hardware profiles, or the operators of one."""
    from simserve import resources
    from simserve.cli import tables
    from simserve.hardware import load_profile

    if name is not None:
        _operators(load_profile(name), as_json)
        return
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
        "A path to a profile's YAML file works too. `simserve hardware NAME`: what stands behind each operator.",
    )


def _operators(profile: HardwareProfile, as_json: bool) -> None:
    from simserve.cli import tables

    found = operator_rows(profile)
    if as_json:
        tables.as_json(found)
        return
    rows = [
        (
            row["operator"],
            row["dtypes"] or "all other",
            row["status"],
            "-" if row["error_percent"] is None else f"{row['error_percent']:.0f}",
            row["basis"],
        )
        for row in found
    ]
    tables.show(
        ("operator", "formats", "status", "error %", "from"),
        rows,
        f"{profile.document.description}. Operators that are not listed are analytic estimates (assumed).",
    )


def operator_rows(profile: HardwareProfile) -> list[dict[str, Any]]:
    """Each operator of a profile: formats, `measured`, `fitted` or `assumed`, the mean error that is known, and what it rests on."""
    rows: list[dict[str, Any]] = []
    for entry in profile.entries():
        check = entry.check.points or entry.check.shapes
        rows.append(
            {
                "operator": entry.operator,
                "dtypes": entry.dtype,
                "status": "measured",
                "error_percent": None if check is None else check.mape_percent,
                "basis": f"{entry.points:,} points, {' '.join(part for part in (entry.backend, entry.kernel) if part)}",
            }
        )
    for stated in profile.document.efficiencies:
        numbers = f"{stated.compute_fraction:.0%} of peak, {stated.bandwidth_fraction:.0%} of bandwidth, {1e6 * stated.floor_s:g} us"
        rows.append(
            {
                "operator": stated.operator,
                "dtypes": ", ".join(stated.dtypes),
                "status": stated.status,
                "error_percent": stated.error_percent,
                "basis": f"{numbers}: {stated.source}",
            }
        )
    return rows
