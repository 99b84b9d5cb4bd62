"""What the documentation shows of the program's own output: `python -m tests.docs.refresh` writes it anew, the tests compare.

Shown: the quickstart's terminal output and one of its plots in README.md; kernel errors and papers' claims in docs/fidelity.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

from tests.docs.blocks import ROOT
from tests.docs.kernel_targets import PROFILES, kernel_targets

README = ROOT / "README.md"
FIDELITY = ROOT / "docs" / "fidelity.md"
PICTURE = ROOT / "docs" / "images" / "quickstart-latency-cdf.png"

NEIGHBOURS = {"sarathi_ablation": ("workload.arrivals.rate_per_s", (0.7, 0.8, 0.9, 1.0, 1.1))}
"""Experiments with a free number that was chosen by the outcome: the key, and values around the choice to be shown with it."""


def quickstart(out: Path) -> str:
    """What `simserve run experiments/quickstart.yaml` prints on a terminal of 110 columns."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "110", "MPLBACKEND": "agg"}
    command = [sys.executable, "-m", "simserve", "run", str(ROOT / "experiments" / "quickstart.yaml"), "--out", str(out), "--quiet"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return "\n".join(line.rstrip() for line in run.stdout.strip("\n").splitlines()) + "\n"


def readme_with(output: str) -> str:
    """README.md with this text in its output block."""
    before, rest = README.read_text(encoding="utf-8").split("```text title=quickstart\n")
    return f"{before}```text title=quickstart\n{output}```{rest.split('```', 1)[1]}"


def kernel_table() -> str:
    """Check errors of the fitted operators, from the profiles: points / shapes in percent, means weighted by measurements."""
    cells: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    profiles = []
    for path in sorted((ROOT / "hardware_profiles").glob("*.yaml")):
        groups = defaultdict(list)
        for entry in yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["operators"]:
            groups[entry["operator"], entry["dtype"]].append(entry)
        if groups:
            profiles.append(path.stem)
        for key, entries in groups.items():
            cells[key][path.stem] = f"{_error(entries, 'points')} / {_error(entries, 'shapes')}"
    rows = [f"| operator | type | {' | '.join(profiles)} |", "|---|---|" + "--:|" * len(profiles)]
    rows += [f"| {key[0]} | {key[1]} | {' | '.join(of.get(p, '') for p in profiles)} |" for key, of in sorted(cells.items())]
    return "\n".join(rows) + "\n"


def targets() -> str:
    """The accuracy asked of the kernels, and what the profiles of the three measured GPUs reach."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    paths = {name: ROOT / "hardware_profiles" / f"{name}.yaml" for name in PROFILES}
    return kernel_targets({n: yaml.load(p.read_text(encoding="utf-8"), Loader=loader)["operators"] for n, p in paths.items()})


def _error(entries: list[dict[str, Any]], kind: str) -> str:
    checks = [entry["check"][kind] for entry in entries if entry["check"][kind]]
    rows = sum(check["rows"] for check in checks)
    return f"{sum(check['rows'] * check['mape_percent'] for check in checks) / rows:.1f}" if rows else "–"


def claims() -> str:
    """The published claims of each bundled experiment that has any, beside what comes out here."""
    from simserve import resources
    from simserve.config.experiment import load
    from simserve.study.claims import check_claims

    parts = []
    for name in resources.available("experiments"):
        spec = load(name).spec
        if not spec.claims or spec.paper is None or spec.paper.priority != "A":
            continue  # B and C take longer than a test may
        report = check_claims(name)
        parts.append(f"### {report.paper['title']}: `{name}`\n\n{report.paper['reference']}. {report.paper['setting']}\n")
        rows = ["| claim | published | ours | band | |", "|---|--:|--:|--:|---|"]
        for o in report.outcomes:
            ours = " < ".join(f"{v:.3g}" for v in o.values.values() if v is not None) if o.ours is None else f"{o.ours:.3g}"
            band = "order" if o.ours is None else f"{_bound(o.low)} to {_bound(o.high)}"
            if o.ours is not None and None in (o.low, o.high):
                band = f"at most {o.high:.3g}" if o.low is None else f"at least {o.low:.3g}"
            rows.append(f"| {o.claim} | {_bound(o.published)} | {ours} | {band} | {'in' if o.reproduced else '**out**'} |")
        parts.append("\n".join(rows) + "\n")
        if name in NEIGHBOURS:
            parts.append(_neighbours(name, *NEIGHBOURS[name]))
    return "\n".join(parts)


def _neighbours(name: str, key: str, values: tuple[float, ...]) -> str:
    from simserve.study.claims import check_claims

    rows = []
    for value in values:
        outcomes = [o for o in check_claims(name, [f"{key}={value}"]).outcomes if o.ours is not None]
        if not rows:
            rows += [f"| `{key}` | {' | '.join(o.claim for o in outcomes)} |", "|--:|" + "--:|" * len(outcomes)]
            rows.append(f"| published | {' | '.join(_bound(o.published) for o in outcomes)} |")
        rows.append(f"| {value:g} | {' | '.join(f'{o.ours:.3g}' for o in outcomes)} |")
    return "The same at neighbouring values of the number that was chosen:\n\n" + "\n".join(rows) + "\n"


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def fidelity() -> str:
    """docs/fidelity.md with its made sections made anew."""
    text = FIDELITY.read_text(encoding="utf-8")
    for section, content in (("kernels", kernel_table()), ("targets", targets()), ("claims", claims())):
        begin, end = f"<!-- {section}: written by tests/docs/refresh.py -->", f"<!-- end of {section} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{content}\n{end}{rest.split(end)[1]}"
    return text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quickstart"
        README.write_text(readme_with(quickstart(out)), encoding="utf-8")
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_bytes((out / "plots" / "latency_cdf.png").read_bytes())
    FIDELITY.write_text(fidelity(), encoding="utf-8")


if __name__ == "__main__":
    main()
