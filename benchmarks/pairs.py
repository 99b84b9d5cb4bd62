"""Is the loop slower than it was? Two checkouts, the same work, in turns.

    python benchmarks/pairs.py OLD_CHECKOUT [NEW_CHECKOUT] [--pairs 20] [--case w2] [--case w3]

Each checkout runs in a process of its own that stays alive, so that imports and cost tables are paid before the clock starts; the loops
take turns, and each pair gives one ratio of CPU seconds, new over old. Every few pairs both processes are made anew: where a process lies
in memory is worth a few per cent, so that a checkout against itself gave 1.03 without. Prints the median ratio, the quartiles, and the
ratio of function calls (Python's and built-in ones) per request, which does not flicker with the machine.

Cases: `w2` of `w2.py` with generated lengths; `w3`, the same at 16 times the rate on 16 instances; `stages`, W2 on four pipeline stages;
`migration`, 64 instances with Llumnix's router and migration; `many`, 1,000 instances; `long`, 10,000 output tokens, one request at a time.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MOVES = {"controllers": [{"policy": "llumnix-migration"}], "network": {"bytes_per_s": 8e9}, "router": {"policy": "freeness"}}
ALONE = {
    "arrivals": {"kind": "constant", "rate_per_s": 0.01},
    "lengths": {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10_000}},
}
CASES: dict[str, tuple[int, float, dict[str, Any]]] = {
    "w2": (1, 1.0, {}),
    "w3": (16, 1.0, {}),
    "stages": (1, 0.25, {"group": {"parallel": {"pp": 4}}}),
    "migration": (64, 1.0, {"cluster": MOVES}),
    "many": (1000, 1.0, {}),
    "long": (1, 0.1, {"workload": ALONE}),
}
"""Of each case: instances, its part of the requests that are asked for, what its experiment has beside."""

PAIRS_OF_A_PROCESS = 3


def experiment(
    instances: int, requests: int, group: dict[str, Any] | None = None, cluster: Any = None, workload: Any = None
) -> dict[str, Any]:
    return {
        "name": "pairs",
        "model": "llama-2-7b",
        "hardware": "a100-sxm-80gb",
        "engine": "sarathi-serve",
        "cluster": {
            "instances": [{"count": instances, "scheduler": {"policy": "sarathi", "token_budget": 512, "max_seqs": 128}, **(group or {})}],
            **(cluster or {}),
        },
        "workload": {
            "arrivals": {"kind": "poisson", "rate_per_s": 3.5 * instances},
            "lengths": {
                "prompt": {"kind": "lognormal", "median_tokens": 800, "sigma": 0.9, "max_tokens": 3072},
                "output": {"kind": "lognormal", "median_tokens": 130, "sigma": 0.9, "max_tokens": 1000},
            },
            "count": requests,
            **(workload or {}),
        },
    }


def serve() -> None:
    """The work of one checkout: a line of JSON in (case, requests, how), a number out."""
    from simserve.config.assemble import assemble
    from simserve.config.experiment import load
    from simserve.engine import simulate

    ready: dict[str, Any] = {}
    for line in sys.stdin:
        key, requests, how = json.loads(line)
        if key not in ready:  # tables are filled by the first run
            instances, part, beside = CASES[key]
            ready[key] = load(experiment(instances, max(1, int(part * requests)), **beside))
            parts = assemble(ready[key])
            simulate(parts.workload, parts.instances, parts.cluster)
        parts = assemble(ready[key])
        requests = len(parts.workload.requests)
        gc.collect()
        gc.disable()
        if how == "calls":
            profile = cProfile.Profile()
            profile.runcall(simulate, parts.workload, parts.instances, parts.cluster)
            found: float = pstats.Stats(profile).total_calls / requests  # type: ignore[attr-defined]
        else:
            start = time.process_time()
            simulate(parts.workload, parts.instances, parts.cluster)
            found = time.process_time() - start
        gc.enable()
        print(json.dumps(found), flush=True)


class Checkout:
    """A checkout's process."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
        )

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def ask(self, case: str, requests: int, how: str) -> float:
        """CPU seconds of the loop, or function calls per request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([case, requests, how]) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=ROOT)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--case", action="append", choices=sorted(CASES))
    arguments = parser.parse_args()
    for case in arguments.case or sorted(CASES):
        work = case, arguments.requests
        old, new = Checkout(arguments.old.resolve()), Checkout(arguments.new.resolve())
        calls = [checkout.ask(*work, "calls") for checkout in (old, new)]
        ratios = []
        for turn in range(arguments.pairs):
            if turn % PAIRS_OF_A_PROCESS == 0:
                old.close()
                new.close()
                old, new = Checkout(arguments.old.resolve()), Checkout(arguments.new.resolve())
            first, second = (old, new) if turn % 2 else (new, old)
            seconds = {first: first.ask(*work, "time"), second: second.ask(*work, "time")}
            ratios.append(seconds[new] / seconds[old])
            print(f"\r{case}: pair {turn + 1} of {arguments.pairs}", end="", file=sys.stderr, flush=True)
        old.close()
        new.close()
        print(file=sys.stderr)
        low, _, high = quantiles(ratios, n=4)
        print(
            f"{case}: CPU seconds new/old, median of {len(ratios)} pairs {median(ratios):.3f} (quartiles {low:.3f} to {high:.3f}); "
            f"calls per request {calls[0]:.1f} -> {calls[1]:.1f} = {calls[1] / calls[0]:.3f}"
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        main()
