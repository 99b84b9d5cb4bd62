"""How much faster a sweep is on two cores than on one, and how long a resume takes. One run, so that the ratio is of one machine.

    python benchmarks/sweep.py [--points 200] [--requests 2000]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import simserve
from simserve.study.sweep_result import SweepResult

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
    },
    "slo": {"ttft_s": 1.0, "tpot_s": 0.06},
}


def main() -> None:
    """Prints the seconds and the ratio as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    rates = {"low": 2.0, "high": 10.0, "steps": options.points}
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:

        def timed(name: str, jobs: int, out: str, resume: bool = False) -> SweepResult:
            start = time.perf_counter()
            found = simserve.sweep(
                {**EXPERIMENT, "workload": {**EXPERIMENT["workload"], "count": options.requests}},
                {"workload.arrivals.rate_per_s": rates}, jobs=jobs, out=Path(folder) / out, resume=resume, progress=True,
            )  # fmt: skip
            seconds[name] = round(time.perf_counter() - start, 2)
            return found

        several = timed(f"{options.jobs}_jobs", options.jobs, "several")
        one = timed("1_job", 1, "one")
        timed("resume", options.jobs, "several", resume=True)
    assert one.frame.equals(several.frame), "workers changed the rows"
    ratio = round(seconds["1_job"] / seconds[f"{options.jobs}_jobs"], 2)
    print(json.dumps({"points": options.points, "requests": options.requests, "seconds": seconds, "speed_up": ratio}))


if __name__ == "__main__":
    main()
