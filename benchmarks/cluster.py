"""What a request costs the simulator in a cluster of 64 instances, as a multiple of what it costs on one instance with the same load.

    python benchmarks/cluster.py [--instances 64] [--requests 40000] [--repeats 3] [--router NAME ...]

Each router serves the same requests: Poisson arrivals of 3.5 requests/s for each instance, lengths like those of the Azure conversation
trace, Llama-2-7B on an A100, Sarathi-Serve; once with signals of the moment and once with signals refreshed every 0.05 s; prefix affinity
with prompts of known contents (conversations that grow by a turn) and prefix caching; Splitwise's routers with as many prefill as decode
instances, against one of each. The ratio is that of the CPU seconds a request of the simulation loop; one instance and the cluster take
turns, so that a busy moment of the machine meets both, and the best of each counts. (With stale signals one instance pays for all ticks.)
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from simserve.config.assemble import Assembly, assemble  # noqa: E402
from simserve.config.experiment import load  # noqa: E402
from simserve.engine import simulate  # noqa: E402
from simserve.policies import registry  # noqa: E402
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload  # noqa: E402

RATE_PER_S = 3.5
TURNS = 4
BLOCK_TOKENS = 512


class Seconds(NamedTuple):
    """Of one simulation loop, for each request."""

    cpu_s: float
    wall_s: float


def parts(instances: int, router: str, refresh_s: float, requests: int, contents: bool) -> Assembly:
    """The experiment with its requests drawn and its costs tabulated."""
    mixed = {"scheduler": {"policy": "sarathi", "token_budget": 512, "max_seqs": 128}, "kv": {"prefix_caching": contents}}
    groups = [{**mixed, "count": instances}]
    choice = {"policy": router, "refresh_s": refresh_s}
    if router == "splitwise":
        groups = [{**mixed, "role": role, "count": max(1, instances // 2)} for role in ("prefill", "decode")]
        choice["decode_policy"] = "splitwise-decode"
    found = assemble(
        load(
            {
                "name": "cluster",
                "model": "llama-2-7b",
                "hardware": "a100-sxm-80gb",
                "engine": "sarathi-serve",
                "cluster": {
                    "instances": groups,
                    "router": choice,
                },
                "workload": {
                    "arrivals": {"kind": "poisson", "rate_per_s": RATE_PER_S * instances},
                    "lengths": {
                        "prompt": {"kind": "lognormal", "median_tokens": 800, "sigma": 0.9, "max_tokens": 3072},
                        "output": {"kind": "lognormal", "median_tokens": 130, "sigma": 0.9, "max_tokens": 1000},
                    },
                    "count": requests,
                },
            }
        )
    )
    return found if not contents else Assembly(conversations(found.workload, instances), found.instances, found.cluster)


def conversations(plain: Workload, instances: int) -> Workload:
    """The same arrivals as conversations of `TURNS` turns, each turn's prompt the previous one and a block more; as many conversations at a
    time as there are on average 40 on an instance."""
    table = plain.requests
    rows = np.arange(len(table))
    at_once = 40 * instances
    turn = rows // at_once % TURNS
    talk = rows % at_once + at_once * (rows // (at_once * TURNS))
    blocks = turn + 1
    ids = np.concatenate([talk[row] * TURNS + np.arange(blocks[row]) for row in rows.tolist()])
    prefix = PrefixBlocks(np.concatenate([[0], np.cumsum(blocks)]), ids, BLOCK_TOKENS)
    asked = RequestTable.build(table.arrival_s, blocks * BLOCK_TOKENS, table.output_tokens, session=talk, prefix=prefix)
    return Workload(asked)


def loop(instances: int, router: str, refresh_s: float, requests: int, contents: bool) -> Seconds:
    """One simulation, costs and requests ready."""
    ready = parts(instances, router, refresh_s, requests, contents)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    simulate(ready.workload, ready.instances, ready.cluster)
    return Seconds((time.process_time() - cpu) / requests, (time.perf_counter() - wall) / requests)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, default=64)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--router", action="append", choices=registry.router_names())
    options = parser.parse_args()
    print(f"| router | signals | 1 instance, CPU us a request | {options.instances} instances | ratio of CPU | ratio of wall |")
    print("|---|---|--:|--:|--:|--:|")
    worst = 0.0
    for router in options.router or [name for name in registry.router_names() if name != "splitwise-decode"]:
        for refresh_s in (0.0, 0.05):
            case: dict[str, Any] = {"requests": options.requests, "contents": router == "prefix-affinity"}
            one, many = [], []
            for _ in range(options.repeats):
                one.append(loop(1, router, refresh_s, **case))
                many.append(loop(options.instances, router, refresh_s, **case))
            cpu = [min(found.cpu_s for found in side) for side in (one, many)]
            wall = [min(found.wall_s for found in side) for side in (one, many)]
            worst = max(worst, cpu[1] / cpu[0])
            signals = f"{refresh_s:g} s old" if refresh_s else "of the moment"
            figures = f"{cpu[0] * 1e6:.0f} | {cpu[1] * 1e6:.0f} | {cpu[1] / cpu[0]:.2f} | {wall[1] / wall[0]:.2f}"
            print(f"| {router} | {signals} | {figures} |", flush=True)
    print(f"worst ratio of CPU: {worst:.2f}")


if __name__ == "__main__":
    main()
