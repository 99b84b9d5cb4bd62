"""Writes a hardware profile: device facts that a person wrote, operators that a fit found."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.calibration.fit import Progress, fit_tables
from simserve.calibration.plots import draw_checks
from simserve.calibration.tables import read_tables
from simserve.errors import ConfigError, ProfileError
from simserve.hardware.profile import HardwareProfile, load_profile

if TYPE_CHECKING:
    import pandas as pd


def build_profile(
    facts: Path,
    tables: Sequence[tuple[Path, frozenset[str] | None]],
    out: Path,
    progress: Progress,
    *,
    name: str | None = None,
    report: Path | None = None,
    compact: bool = False,
) -> tuple[HardwareProfile, Counter[str]]:
    """Fit the tables and write `out` (YAML) with its coefficients in a folder of the same name beside it.

    facts   a profile whose `device`, `description`, `sources`, `notes` and `backends` are kept (it may be `out` itself)
    tables  directories of measured tables, each with the operators to take from it (None = all); later ones add entries
    report  a directory for a figure of each operator, of the check rows and what the fit that did not see them predicted
    compact  fewer coefficients (`fit_tables`)
    Returns the profile and the rows left out, by reason. Raises ProfileError or ConfigError for unusable input.
    """
    base = load_profile(facts)
    if out.suffix != ".yaml":
        raise ProfileError(f"{out}: a hardware profile is written to a .yaml file")
    entries: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    checks: list[pd.DataFrame] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    # Fitting takes minutes: nothing of the old profile changes until all of the new one is there.
    with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as staging:
        for folder, only in tables:
            read = read_tables(folder, only)
            fitted = fit_tables(read, base.device, Path(staging), out.stem, progress, compact=compact)
            entries += [e.model_dump(mode="json") for e in fitted.entries]
            left_out += read.skipped + fitted.left_out
            checks += fitted.checks
        if not entries:
            reasons = "; ".join(f"{rows:,} rows: {reason}" for reason, rows in left_out.most_common(4))
            raise ConfigError(f"no operator could be fitted from {', '.join(str(folder) for folder, _ in tables)} ({reasons})")
        document = base.document.model_dump(mode="json") | {"name": name or out.stem, "operators": entries}
        _replace(Path(staging) / out.stem, out, document)
    if report is not None:
        draw_checks(checks, out.stem, report)
    return load_profile(out), left_out


def _replace(coefficients: Path, out: Path, document: dict[str, Any]) -> None:
    """Put the new coefficients and then the YAML in place, and remove coefficients that nothing refers to any more."""
    import yaml

    folder = out.with_suffix("")
    folder.mkdir(exist_ok=True)
    new = {path.name for path in coefficients.iterdir()}
    for path in coefficients.iterdir():
        path.replace(folder / path.name)
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=140)
    (coefficients / "profile.yaml").write_text(text, encoding="utf-8")
    (coefficients / "profile.yaml").replace(out)
    for path in folder.glob("*.json.gz"):
        if path.name not in new:
            path.unlink()
