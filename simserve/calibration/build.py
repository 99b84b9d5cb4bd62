"""Writes a hardware profile: device facts that a person wrote, operators that a fit found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simserve.calibration.fit import Progress, fit_tables
from simserve.calibration.tables import read_tables
from simserve.errors import ProfileError
from simserve.hardware.profile import HardwareProfile, load_profile


def build_profile(
    facts: Path, tables: Sequence[tuple[Path, frozenset[str] | None]], out: Path, progress: Progress
) -> tuple[HardwareProfile, dict[str, int]]:
    """Fit the tables and write `out` (YAML) with its coefficients in a folder of the same name beside it.

    facts   a profile whose `device`, `description`, `sources`, `notes` and `backends` are kept (it may be `out` itself)
    tables  directories of measured tables, each with the operators to take from it (None = all); later ones add entries
    Returns the profile and the rows left out, by reason. Raises ProfileError or ConfigError for unusable input.
    """
    import yaml

    base = load_profile(facts)
    if out.suffix != ".yaml":
        raise ProfileError(f"{out}: a hardware profile is written to a .yaml file")
    stale = {e.model.file for e in load_profile(out).entries()} if out.exists() else set()
    entries: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    for folder, only in tables:
        read = read_tables(folder, only)
        fitted, small = fit_tables(read, base.device, out.parent, out.stem, progress)
        entries += [e.model_dump(mode="json") for e in fitted]
        for reason, rows in [*read.skipped.items(), *small.items()]:
            left_out[reason] = left_out.get(reason, 0) + rows
    document = base.document.model_dump(mode="json") | {"operators": entries}
    for file in stale - {e["model"]["file"] for e in entries}:
        (out.parent / file).unlink(missing_ok=True)
    out.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=140), encoding="utf-8")
    return load_profile(out), left_out
