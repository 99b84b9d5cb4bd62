"""How large a study fits a machine: CPU seconds and memory of whole runs by requests, instances, stages, output lengths and sweep points.

    python -m benchmarks.scale [--requests 1000000] [--only NAME] [--compiled FOLDER] [--write]

Every run is a `simserve run` (or `sweep`) of its own. `--write` puts the table into docs/scale.md and appends the figures to
`benchmarks/history.csv`, with the commit and the machine's yardstick (of `w2.py`), by which figures of different machines are compared.
`--compiled` measures a compiled build of this commit instead, as `pip install --no-deps --target FOLDER WHEEL` makes it; it has a table of
its own.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.counted_work import case
from benchmarks.processes import ROOT, seconds
from benchmarks.w2 import best, yardstick
from simserve.workload.config import WorkloadConfig
from simserve.workload.drawn import drawn

PAGE = ROOT / "docs" / "scale.md"
HISTORY = ROOT / "benchmarks" / "history.csv"
COLUMNS = ("date", "commit", "case", "cpu_s", "mib", "per_request_us", "yardstick_s")
POINTS, REQUESTS_OF_A_POINT = 20, 1000
TRACE = "scale.csv"


class Row(NamedTuple):
    """One measured process. `each_us`: CPU microseconds a request beyond those of a run of almost none."""

    name: str
    cpu_s: float
    mib: float
    each_us: float | None


def runs(most: int) -> dict[str, tuple[Any, int]]:
    """Experiments by name, with their requests."""
    lengths = {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10_000}}
    alone = {"arrivals": {"kind": "constant", "rate_per_s": 0.01}, "lengths": lengths}
    move = {"controllers": [{"policy": "llumnix-migration"}], "network": {"bytes_per_s": 8e9}, "router": {"policy": "freeness"}}
    sizes = [size for size in (10_000, 100_000, 1_000_000, 10_300_000) if size <= most]
    found = {f"{size:,} requests": (case(1, size), size) for size in sizes}
    pieces = {"stream_above": 0}
    found |= {f"{size:,} requests in pieces": ({**case(1, size), **pieces}, size) for size in sizes[1:] if size <= 1_000_000}
    file = {"trace": {"path": TRACE}, "arrivals": None, "lengths": None, "count": None}
    found |= {f"{size:,} requests of a CSV in pieces": ({**case(1, 0, workload=file), **pieces}, size) for size in sizes[1:]}
    if most >= 1_000_000:
        days = {"burstgpt_like": {"days": 61}, "arrivals": None, "lengths": None, "count": None}
        found["BurstGPT-like, 61 days, 1,430,000 requests"] = case(1, 0, workload=days), 1_430_000
    found |= {f"20,000 requests, {n} instances": (case(n, 20_000), 20_000) for n in (64, 256, 1000)}
    found["20,000 requests, 64 instances, migration"] = case(64, 20_000, cluster=move), 20_000
    found["2,000 requests, 4 pipeline stages"] = case(1, 2000, group={"parallel": {"pp": 4}}), 2000
    found["1,000 requests of 10,000 output tokens"] = case(1, 1000, workload=alone), 1000
    return found


def write_generated(requests: int, path: Path) -> None:
    """A CSV of the same requests that the case of as many draws."""
    config = WorkloadConfig.model_validate({key: value for key, value in case(1, requests)["workload"].items() if value is not None})
    with path.open("w", encoding="utf-8") as file:
        file.write("arrival_s,prompt_tokens,output_tokens\n")
        tables = drawn(config, 0).tables
        assert tables is not None
        for table in tables(100_000):
            columns = (table.arrival_s.tolist(), table.prompt_tokens.tolist(), table.output_tokens.tolist())
            file.writelines(f"{arrival_s!r},{prompt},{output}\n" for arrival_s, prompt, output in zip(*columns, strict=True))


def measured(name: str, experiment: Any, requests: int, start_s: float, package: Path = ROOT) -> Row:
    """A run of it without plots and report."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scale.yaml"
        path.write_text(json.dumps(experiment))
        if experiment["workload"].get("trace") is not None:
            write_generated(requests, Path(folder) / TRACE)
        out = ["--out", f"{folder}/out", "--quiet", "--no-plots", "--no-report"]
        cpu_s, mib = min(seconds(package, ["run", str(path), *out]) for _ in range(1 if requests > 50_000 else 3))
    return Row(name, cpu_s, mib, (cpu_s - start_s) / requests * 1e6 if start_s else None)


def swept(package: Path = ROOT) -> Row:
    """A sweep of `POINTS` points on one core."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scale.yaml"
        path.write_text(json.dumps(case(1, REQUESTS_OF_A_POINT)))
        rates = ",".join(f"{2 + 0.1 * point:.1f}" for point in range(POINTS))
        over = ["--over", f"workload.arrivals.rate_per_s={rates}", "--jobs", "1", "--quiet", "--out", f"{folder}/out"]
        cpu_s, mib = min(seconds(package, ["sweep", str(path), *over]) for _ in range(3))
    return Row(f"sweep of {POINTS} points of {REQUESTS_OF_A_POINT:,} requests", cpu_s, mib, None)


def table(rows: list[Row], unit_s: float, what: str = "run") -> str:
    """Markdown."""
    lines = [f"| {what} (yardstick {unit_s:.2f} s) | CPU s | peak MiB | CPU us a request |", "|---|--:|--:|--:|"]
    lines += [f"| {r.name} | {r.cpu_s:.2f} | {r.mib:,.0f} | {'' if r.each_us is None else f'{r.each_us:.0f}'} |" for r in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="cases whose names hold this text; with --write, for the history alone")
    parser.add_argument("--compiled", type=Path, help="folder with a compiled build")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    package, what = (options.compiled.resolve(), "compiled run") if options.compiled else (ROOT, "run")
    unit_s = best(5, yardstick)
    first = measured("a run of 1 request", case(1, 1), 1, 0.0, package)
    rows = [first]
    for name, (experiment, requests) in runs(options.requests).items():
        if options.only not in name:
            continue
        rows.append(measured(name, experiment, requests, first.cpu_s, package))
        print(rows[-1], flush=True)
    if not options.only:
        rows.append(swept(package))
    text = table(rows, unit_s, what)
    print(text)
    if options.write and not options.only:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(re.sub(rf"\| {what} \(yardstick.*?\n\n", lambda _: text + "\n", page, count=1, flags=re.S), encoding="utf-8")
    if options.write:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        commit = head.stdout.strip()
        new = not HISTORY.is_file()
        with HISTORY.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(COLUMNS)
            date = datetime.date.today().isoformat()
            for row in rows:
                each = "" if row.each_us is None else f"{row.each_us:.1f}"
                writer.writerow(
                    [
                        date,
                        commit,
                        f"{'compiled: ' if options.compiled else ''}{row.name}",
                        f"{row.cpu_s:.3f}",
                        f"{row.mib:.0f}",
                        each,
                        f"{unit_s:.4f}",
                    ]
                )


if __name__ == "__main__":
    main()
