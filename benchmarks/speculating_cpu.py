"""What speculation costs the simulator: CPU seconds of the loop with and without it, measured in turns in one process.

    python benchmarks/speculating_cpu.py [--requests 600] [--rounds 9] [--regime short] [--regime long] ...

Llama-3.1-8B on one H100 under vLLM V1, prompts of some 800 tokens. Each round runs the loop once without speculation, once with EAGLE-3
(three tokens in a row, each right in 7 of 10 cases) and once with n-grams (the same, with a draft in 6 of 10 steps); each of these is set
against the run without of the same round. Prints the median ratio of CPU seconds for each step and for each run, and the quartiles of the
former.

The two ratios differ because a run that speculates takes fewer steps. It plans, admits and records the same requests in them, so
speculation that cost nothing would still raise the CPU seconds of a step: by `floor`, the steps without over the steps with it.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Regime(NamedTuple):
    """Requests per second, and median tokens of the outputs."""

    rate_per_s: float
    output_tokens: int


REGIMES = {"short": Regime(10, 130), "overload": Regime(25, 130), "middle": Regime(8, 500), "long": Regime(2, 1000)}
METHODS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "eagle3": {"method": "eagle3", "tokens": 3, "acceptance": {"rate": 0.7}},
    "ngram": {"method": "ngram", "tokens": 3, "acceptance": {"rate": 0.7, "hit": 0.6}},
}


class Cost(NamedTuple):
    """CPU seconds of a loop, and the steps of it."""

    cpu_s: float
    steps: int


def experiment(regime: Regime, speculation: dict[str, Any] | None, requests: int) -> dict[str, Any]:
    return {
        "name": "speculating-cpu",
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm-80gb",
        "engine": "vllm-v1",
        "workload": {
            "arrivals": {"kind": "poisson", "rate_per_s": regime.rate_per_s},
            "lengths": {
                "prompt": {"kind": "lognormal", "median_tokens": 800, "sigma": 0.9, "max_tokens": 3072},
                "output": {"kind": "lognormal", "median_tokens": regime.output_tokens, "sigma": 0.9, "max_tokens": 4000},
            },
            "count": requests,
        },
    } | ({} if speculation is None else {"speculation": speculation})


def loop(loaded: Any) -> Cost:
    """One simulation; requests and cost tables are made before the clock starts."""
    from simserve.config.assemble import assemble
    from simserve.engine import simulate

    parts = assemble(loaded)
    gc.collect()
    gc.disable()
    start = time.process_time()
    records = simulate(parts.workload, parts.instances, parts.cluster)
    seconds = time.process_time() - start
    gc.enable()
    return Cost(seconds, int(records.counters["steps"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--regime", action="append", choices=list(REGIMES))
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from simserve.config.experiment import load

    for name in arguments.regime or REGIMES:
        loaded = {method: load(experiment(REGIMES[name], section, arguments.requests)) for method, section in METHODS.items()}
        for each in loaded.values():  # tables are filled by the first run
            loop(each)
        rounds = [{method: loop(each) for method, each in loaded.items()} for _ in range(arguments.rounds)]
        plain = median(costs["none"].cpu_s / costs["none"].steps for costs in rounds)
        rate, tokens = REGIMES[name]
        print(f"{name}: {rate:g} requests/s, outputs of some {tokens} tokens; {plain * 1e6:.1f} us a step without speculation")
        for method in list(METHODS)[1:]:
            whole = [costs[method].cpu_s / costs["none"].cpu_s for costs in rounds]
            floor = rounds[0]["none"].steps / rounds[0][method].steps
            low, middle, high = (floor * ratio for ratio in quantiles(whole, n=4))
            print(
                f"    {method}: {middle:.2f} times the CPU of a step (quartiles {low:.2f} to {high:.2f}; floor {floor:.2f}), "
                f"{median(whole):.2f} times that of the run"
            )


if __name__ == "__main__":
    main()
