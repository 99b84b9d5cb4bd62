"""Whole processes of two checkouts in turns: how long a user waits, start-up and outputs included.

    git worktree add /tmp/old REVISION
    python benchmarks/processes.py /tmp/old [NEW_CHECKOUT] [--pairs 11] [--case help] [--case quickstart]

Each pair gives one ratio of CPU seconds, new over old (user and system, of the process and its children); prints the medians. The first
process of each checkout and case is not counted: it writes the bytecode.

Cases: `help`, `simserve --help`; `quickstart`, `simserve run quickstart` with all outputs; `bare`, the same without plots and report; `w2`,
W2 of `w2.py` with generated lengths; `sweep`, 40 points of 500 requests each.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
POINTS, REQUESTS = 40, 500


def arguments_of(case: str, folder: Path) -> list[str]:
    """The command line of a case; its files lie in `folder`."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.pairs import experiment

    out = ["--out", str(folder / "out"), "--force"]
    if case == "help":
        return ["--help"]
    if case in ("quickstart", "bare"):
        return ["run", "quickstart", *out, "--quiet", *(["--no-plots", "--no-report"] if case == "bare" else [])]
    path = folder / f"{case}.yaml"
    if case == "w2":
        path.write_text(json.dumps(experiment(1, 10_000)))
        return ["run", str(path), *out, "--quiet", "--no-plots", "--no-report"]
    path.write_text(json.dumps(experiment(1, REQUESTS)))
    rates = ",".join(f"{1 + 0.05 * point:.2f}" for point in range(POINTS))
    return ["sweep", str(path), "--over", f"workload.arrivals.rate_per_s={rates}", "--out", str(folder / "swept"), "--jobs", "1", "--quiet"]


def seconds(checkout: Path, arguments: list[str]) -> tuple[float, float]:
    """(CPU seconds, peak MiB) of one process."""
    if "--out" in arguments:  # a sweep is not replaced
        shutil.rmtree(arguments[arguments.index("--out") + 1], ignore_errors=True)
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "simserve", *arguments], stdout=subprocess.DEVNULL, env=environment, cwd=tempfile.gettempdir()
    )  # not in a checkout: Python looks there first
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"simserve {' '.join(arguments)} of {checkout} failed with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    cases = ("help", "quickstart", "bare", "w2", "sweep")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--case", action="append", choices=cases)
    options = parser.parse_args()
    sides = {"old": options.old.resolve(), "new": options.new.resolve()}
    for case in options.case or cases:
        with tempfile.TemporaryDirectory() as name:
            arguments = arguments_of(case, Path(name))
            for checkout in sides.values():
                seconds(checkout, arguments)
            runs = []
            for turn in range(options.pairs):
                order = ("old", "new") if turn % 2 else ("new", "old")
                runs.append({side: seconds(sides[side], arguments) for side in order})
        ratios = [run["new"][0] / run["old"][0] for run in runs]
        low, _, high = quantiles(ratios, n=4)
        of = {side: (median(run[side][0] for run in runs), max(run[side][1] for run in runs)) for side in sides}
        print(
            f"{case:12s} {of['old'][0]:6.3f} -> {of['new'][0]:6.3f} CPU s, ratio {median(ratios):.3f} ({low:.3f} to {high:.3f}); "
            f"{of['old'][1]:.0f} -> {of['new'][1]:.0f} MiB"
        )


if __name__ == "__main__":
    main()
