"""How much faster a sweep is on two cores than on one, and how long a resume takes. Each sweep is a `simserve sweep` of its own.

    python benchmarks/sweep.py [--points 200] [--requests 2000] [--repeats 3]

The repeats take turns, so that a busy moment of the machine meets both sides; the best of each counts. `cpu_s` tells a busy machine
(seconds grow, CPU seconds do not) from work that was done twice (both grow).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

EXPERIMENT = {
    "name": "sweep-benchmark",
    "model": "llama-2-7b",
    "hardware": "a100-sxm-80gb",
    "cluster": {"instances": [{"scheduler": {"policy": "sarathi", "token_budget": 512, "max_seqs": 128}}]},
    "workload": {
        "arrivals": {"kind": "poisson", "rate_per_s": 4.0},
        "lengths": {
            "prompt": {"kind": "lognormal", "median_tokens": 400, "sigma": 0.9, "max_tokens": 3000},
            "output": {"kind": "lognormal", "median_tokens": 120, "sigma": 0.7, "max_tokens": 1000},
        },
        "count": 2000,
    },
    "slo": {"ttft_s": 1.0, "tpot_s": 0.06},
}
RATE = "workload.arrivals.rate_per_s"


class Timing(NamedTuple):
    """Wall seconds of a command, and CPU seconds of it and its workers."""

    wall_s: float
    cpu_s: float


def timed(experiment: Path, points: int, jobs: int, out: Path, *more: str) -> Timing:
    """One `simserve sweep` over the rate."""
    over = f"{RATE}={{low: 2.0, high: 10.0, steps: {points}}}"
    command = [sys.executable, "-m", "simserve", "sweep", str(experiment), "--over", over, "--jobs", str(jobs), "--out", str(out), *more]
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall_s, after = time.perf_counter() - start, os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Timing(round(wall_s, 2), round(cpu_s, 2))


def main() -> None:
    """Prints the seconds and the ratio as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    one, several = [], []
    with tempfile.TemporaryDirectory() as folder:
        experiment = Path(folder) / "experiment.yaml"
        experiment.write_text(json.dumps(EXPERIMENT | {"workload": EXPERIMENT["workload"] | {"count": options.requests}}))
        for repeat in range(options.repeats):
            outs = Path(folder) / f"one-{repeat}", Path(folder) / f"several-{repeat}"
            several.append(timed(experiment, options.points, options.jobs, outs[1]))
            one.append(timed(experiment, options.points, 1, outs[0]))
            files = [(out / "sweep.parquet").read_bytes() for out in outs]
            assert files[0] == files[1], "workers changed the rows"
        resume = timed(experiment, options.points, options.jobs, outs[1], "--resume")
    best_one, best_several = min(one), min(several)
    result = {
        "points": options.points,
        "requests": options.requests,
        "1_job": best_one._asdict(),
        f"{options.jobs}_jobs": best_several._asdict(),
        "resume": resume._asdict(),
        "speed_up": round(best_one.wall_s / best_several.wall_s, 2),
        "speed_up_of_each": [round(a.wall_s / b.wall_s, 2) for a, b in zip(one, several, strict=True)],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
