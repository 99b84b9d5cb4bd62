"""Whole processes of two checkouts in turns: how long a user waits, start-up and outputs included.

    git worktree add /tmp/old REVISION
    python -m benchmarks.processes /tmp/old [NEW_CHECKOUT] [--pairs 11] [--case help] [--case w2] [--write]

Each pair gives one ratio of CPU seconds, new over old (user and system, of the process and its children); prints the medians. The first
process of each checkout and case is not counted: it writes the bytecode. `--write` puts the table into docs/scale.md and the figures of the
new checkout into `benchmarks/history.csv`.

Cases: `help`, `simserve --help`; `quickstart`, `simserve run quickstart` with all outputs; `bare`, the same without plots and report;
`start`, a run of one request; `w2` and `w3`, W2 of `w2.py` with generated lengths on one instance, and at 16 times the rate on 16; more of
the kind on 64 to 1,000 instances, with migration, on four pipeline stages, with long answers; `sweep`, 40 points of 500 requests.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from benchmarks.counted_work import case as experiment

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "scale.md"
HISTORY = ROOT / "benchmarks" / "history.csv"
POINTS, REQUESTS = 40, 500


def _long() -> Any:
    lengths = {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10_000}}
    return experiment(1, 1000, workload={"arrivals": {"kind": "constant", "rate_per_s": 0.01}, "lengths": lengths})


def _moving(instances: int) -> Any:
    move = {"controllers": [{"policy": "llumnix-migration"}], "network": {"bytes_per_s": 8e9}, "router": {"policy": "freeness"}}
    return experiment(instances, 20_000, cluster=move)


RUNS: dict[str, tuple[str, int, Any]] = {
    "start": ("a run of one request", 1, lambda: experiment(1, 1)),
    "w2": ("W2: 10,000 requests", 10_000, lambda: experiment(1, 10_000)),
    "one": ("20,000 requests, one instance", 20_000, lambda: experiment(1, 20_000)),
    "w3": ("W3: 16 times the rate, 16 instances", 10_000, lambda: experiment(16, 10_000)),
    "64": ("20,000 requests, 64 instances", 20_000, lambda: experiment(64, 20_000)),
    "256": ("20,000 requests, 256 instances", 20_000, lambda: experiment(256, 20_000)),
    "1000": ("20,000 requests, 1,000 instances", 20_000, lambda: experiment(1000, 20_000)),
    "move-64": ("20,000 requests, 64 instances, migration", 20_000, lambda: _moving(64)),
    "move-256": ("20,000 requests, 256 instances, migration", 20_000, lambda: _moving(256)),
    "stages": ("2,000 requests, four pipeline stages", 2000, lambda: experiment(1, 2000, group={"parallel": {"pp": 4}})),
    "long": ("1,000 requests of 10,000 output tokens", 1000, _long),
}
"""By case: what it is called, its requests, its experiment. Without plots and report."""

NAMES = {
    "help": "`simserve --help`",
    "quickstart": "`simserve run quickstart`, all outputs",
    "bare": "the same without plots and report",
    **{case: name for case, (name, _, _) in RUNS.items()},
    "sweep": f"sweep of {POINTS} points of {REQUESTS} requests",
}


class Compared(NamedTuple):
    """A case in both checkouts: CPU seconds (medians) and MiB, the ratio and its quartiles."""

    case: str
    old_s: float
    new_s: float
    old_mib: float
    new_mib: float
    ratio: float
    low: float
    high: float


def arguments_of(case: str, folder: Path) -> list[str]:
    """The command line of a case; its files lie in `folder`."""
    out = ["--out", str(folder / "out"), "--force"]
    if case == "help":
        return ["--help"]
    bare = ["--quiet", "--no-plots", "--no-report"]
    if case in ("quickstart", "bare"):
        return ["run", "quickstart", *out, *(bare if case == "bare" else ["--quiet"])]
    path = folder / f"{case}.yaml"
    if case in RUNS:
        path.write_text(json.dumps(RUNS[case][2]()))
        return ["run", str(path), *out, *bare]
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


def compared(case: str, old: Path, new: Path, pairs: int) -> Compared:
    """A case in both checkouts, in turns."""
    sides = {"old": old.resolve(), "new": new.resolve()}
    with tempfile.TemporaryDirectory() as name:
        arguments = arguments_of(case, Path(name))
        for checkout in sides.values():
            seconds(checkout, arguments)
        runs = []
        for turn in range(pairs):
            order = ("old", "new") if turn % 2 else ("new", "old")
            runs.append({side: seconds(sides[side], arguments) for side in order})
    ratios = [run["new"][0] / run["old"][0] for run in runs]
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    cpu = {side: median(run[side][0] for run in runs) for side in sides}
    mib = {side: max(run[side][1] for run in runs) for side in sides}
    return Compared(case, cpu["old"], cpu["new"], mib["old"], mib["new"], median(ratios), low, high)


def each_us(found: list[Compared], case: str) -> tuple[float, float] | None:
    """CPU microseconds of a request, old and new, beyond those of a run of one; None where that was not measured or is the case."""
    start = next((row for row in found if row.case == "start"), None)
    row = next(row for row in found if row.case == case)
    if start is None or case not in RUNS or case == "start":
        return None
    requests = RUNS[case][1]
    return 1e6 * (row.old_s - start.old_s) / requests, 1e6 * (row.new_s - start.new_s) / requests


def table(found: list[Compared], commit: str) -> str:
    """Markdown."""
    lines = [f"| work, against {commit} | CPU s | ratio (quartiles) | CPU us a request | peak MiB |", "|---|--:|--:|--:|--:|"]
    for row in found:
        each = each_us(found, row.case)
        lines.append(
            f"| {NAMES[row.case]} | {row.old_s:.2f} → {row.new_s:.2f} | {row.ratio:.2f} ({row.low:.2f} to {row.high:.2f}) "
            f"| {'' if each is None else f'{each[0]:.0f} → {each[1]:.0f}'} | {row.old_mib:,.0f} → {row.new_mib:,.0f} |"
        )
    return "\n".join(lines) + "\n"


def commit_of(checkout: Path) -> str:
    """Its abbreviated commit."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write(found: list[Compared], old: Path, new: Path) -> None:
    """The table into the page, and the figures of the new checkout into the history."""
    from benchmarks.w2 import best, yardstick

    page, text = PAGE.read_text(encoding="utf-8"), table(found, commit_of(old))
    PAGE.write_text(re.sub(r"\| work, against.*?\n\n", lambda _: text + "\n", page, count=1, flags=re.S), encoding="utf-8")
    unit_s, date, commit = best(5, yardstick), datetime.date.today().isoformat(), commit_of(new)
    with HISTORY.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in found:
            each = each_us(found, row.case)
            us = "" if each is None else f"{each[1]:.1f}"
            writer.writerow([date, commit, f"process: {NAMES[row.case]}", f"{row.new_s:.3f}", f"{row.new_mib:.0f}", us, f"{unit_s:.4f}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--case", action="append", choices=NAMES)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = []
    for case in options.case or NAMES:
        row = compared(case, options.old, options.new, options.pairs)
        found.append(row)
        print(
            f"{case:12s} {row.old_s:6.3f} -> {row.new_s:6.3f} CPU s, ratio {row.ratio:.3f} ({row.low:.3f} to {row.high:.3f}); "
            f"{row.old_mib:.0f} -> {row.new_mib:.0f} MiB",
            flush=True,
        )
    print(table(found, commit_of(options.old)))
    if options.write:
        write(found, options.old, options.new)


if __name__ == "__main__":
    main()
