"""What the documentation shows of the program's own output: `python -m tests.docs.refresh` writes it anew, the tests compare.

Shown: the quickstart's terminal output and one of its plots in README.md; kernel errors in docs/kernel-accuracy.md; the claims of
papers in docs/paper-costs.md; verified schedules in docs/conformance.md.
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

from tests.docs import paper_costs
from tests.docs.blocks import ROOT
from tests.docs.kernel_targets import PROFILES, kernel_targets
from tests.docs.verified_table import verified_table

README = ROOT / "README.md"
KERNELS = ROOT / "docs" / "kernel-accuracy.md"
CONFORMANCE = ROOT / "docs" / "conformance.md"
PICTURE = ROOT / "docs" / "images" / "quickstart-latency-cdf.png"


def quickstart(out: Path) -> str:
    """What `simserve run experiments/quickstart.yaml` prints on a terminal of 110 columns."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "110", "MPLBACKEND": "agg"}
    command = [sys.executable, "-m", "simserve", "run", str(ROOT / "experiments" / "quickstart.yaml"), "--out", str(out), "--quiet"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return "\n".join(line.rstrip() for line in run.stdout.strip("\n").splitlines()) + "\n"


def readme_with(output: str) -> str:
    """README.md with this text in its output block."""
    fence = '```text title="quickstart"\n'
    before, rest = README.read_text(encoding="utf-8").split(fence)
    return f"{before}{fence}{output}```{rest.split('```', 1)[1]}"


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
    """The accuracy asked of the kernels, and what the profiles of four measured GPUs reach."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    paths = {name: ROOT / "hardware_profiles" / f"{name}.yaml" for name in PROFILES}
    return kernel_targets({n: yaml.load(p.read_text(encoding="utf-8"), Loader=loader)["operators"] for n, p in paths.items()})


def _error(entries: list[dict[str, Any]], kind: str) -> str:
    checks = [entry["check"][kind] for entry in entries if entry["check"][kind]]
    rows = sum(check["rows"] for check in checks)
    return f"{sum(check['rows'] * check['mape_percent'] for check in checks) / rows:.1f}" if rows else "–"


def kernel_page() -> str:
    """docs/kernel-accuracy.md with its made sections made anew."""
    return _with_sections(KERNELS, {"kernels": kernel_table(), "targets": targets()})


def conformance_page() -> str:
    """docs/conformance.md with its made section made anew."""
    return _with_sections(CONFORMANCE, {"schedules": verified_table()})


def _with_sections(page: Path, sections: dict[str, str]) -> str:
    text = page.read_text(encoding="utf-8")
    for section, content in sections.items():
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
    KERNELS.write_text(kernel_page(), encoding="utf-8")
    CONFORMANCE.write_text(conformance_page(), encoding="utf-8")
    paper_costs.PAGE.write_text(paper_costs.page(), encoding="utf-8")


if __name__ == "__main__":
    main()
