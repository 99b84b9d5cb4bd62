"""W2: how fast `simserve run` is, as ratios measured in one run of this script.

Workload: 10,000 requests, lengths of the Azure 2023 conversation trace clipped to 4,096 tokens in all, Poisson 3.5 requests/s, Llama-2-7B
on one A100, Sarathi-Serve with a budget of 512 tokens and 128 sequence slots, full metrics. Peers on a 2-core machine: Vidur 22 s and
1 GiB, BLIS (Go) 4.6 s, 1.9 s at best.

    python benchmarks/w2.py [--trace PATH] [--repeats N]

Without the trace (`../shared/traces/azure-2023`), lognormal lengths of the same medians stand in, and the output says so.

Prints: seconds and peak memory of the whole process (imports, trace, tables, loop, metrics, files); seconds and requests/s of the loop
alone; the same loop stepped one by one (fast_forward: false) as a ratio; a fixed piece of pure Python (a heap of 200,000 numbers) as
the machine's yardstick, so that figures of different machines can be compared; and decode-only work at two output lengths.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
AZURE = ROOT.parent / "shared" / "traces" / "azure-2023" / "AzureLLMInferenceTrace_conv.csv.gz"


def experiment(trace: Path | None) -> dict[str, Any]:
    workload: dict[str, Any] = {"arrivals": {"kind": "poisson", "rate_per_s": 3.5}}
    if trace is not None:
        workload["trace"] = {"format": "azure", "path": str(trace), "clip": {"total_tokens": 4096}, "limit": 10_000}
    else:
        workload["count"] = 10_000
        workload["lengths"] = {
            "prompt": {"kind": "lognormal", "median_tokens": 800, "sigma": 0.9, "max_tokens": 3072},
            "output": {"kind": "lognormal", "median_tokens": 130, "sigma": 0.9, "max_tokens": 1000},
        }
    return {
        "name": "w2",
        "model": "llama-2-7b",
        "hardware": "a100-sxm-80gb",
        "engine": "sarathi-serve",
        "cluster": {"instances": [{"count": 1, "scheduler": {"policy": "sarathi", "token_budget": 512, "max_seqs": 128}}]},
        "workload": workload,
        "slo": {"ttft_s": 2.0, "tpot_s": 0.1},
        "seed": 0,
    }


def best(repeats: int, work: Callable[[], float]) -> float:
    return min(work() for _ in range(repeats))


def yardstick() -> float:
    """Seconds of a fixed piece of pure Python."""
    start = time.perf_counter()
    heap: list[int] = []
    for i in range(200_000):
        heapq.heappush(heap, (i * 7919) % 1_000_003)
    while heap:
        heapq.heappop(heap)
    return time.perf_counter() - start


def whole_process(directory: Path, spec: dict[str, Any]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of one `simserve run` in a process of its own."""
    path = directory / "w2.yaml"
    path.write_text(json.dumps(spec))  # JSON is YAML
    command = [
        sys.executable,
        "-m",
        "simserve",
        "run",
        str(path),
        "--out",
        str(directory / "out"),
        "--force",
        "--no-plots",
        "--no-report",
        "--quiet",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"simserve run failed with exit code {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def loop_seconds(spec: dict[str, Any], fast_forward: bool = True) -> tuple[float, Any]:
    """Seconds of the simulation alone (requests and cost tables ready), and its records."""
    from simserve.config.assemble import assemble
    from simserve.config.experiment import load
    from simserve.engine import simulate

    parts = assemble(load(spec))
    start = time.perf_counter()
    records = simulate(parts.workload, parts.instances, parts.cluster, fast_forward=fast_forward)
    return time.perf_counter() - start, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, default=AZURE)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    trace = arguments.trace if arguments.trace.exists() else None
    if trace is None:
        print("the Azure trace is absent: lognormal lengths stand in", file=sys.stderr)
    sys.path.insert(0, str(ROOT))
    spec = experiment(trace)

    unit = best(arguments.repeats, yardstick)
    with tempfile.TemporaryDirectory() as directory:
        runs = [whole_process(Path(directory), spec) for _ in range(arguments.repeats)]
    wall, cpu, memory = min(r[0] for r in runs), min(r[1] for r in runs), max(r[2] for r in runs)
    loops = [loop_seconds(spec) for _ in range(arguments.repeats)]
    loop = min(seconds for seconds, _ in loops)
    records = loops[0][1]
    stepwise = best(2, lambda: loop_seconds(spec, fast_forward=False)[0])
    tokens = int(records.requests.generated_tokens.sum())
    print(f"requests {len(records.table)}, steps {int(records.counters['steps'])}, output tokens {tokens}")
    print(f"whole process    {wall:6.2f} s wall, {cpu:.2f} s CPU, {memory:.0f} MiB   = {wall / unit:.1f} yardsticks (of {unit:.3f} s)")
    print(f"loop             {loop:6.2f} s, {len(records.table) / loop:,.0f} requests/s   = {loop / unit:.2f} yardsticks")
    print(f"step by step     {stepwise:6.2f} s = {stepwise / loop:.1f} x the loop")
    for output_tokens in (200, 2000):
        single = json.loads(json.dumps(spec))
        single["workload"] = {
            "arrivals": {"kind": "constant", "rate_per_s": 0.01},
            "lengths": {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": output_tokens}},
            "count": 2000,
        }
        seconds = best(arguments.repeats, lambda single=single: loop_seconds(single)[0])  # type: ignore[misc]
        print(f"decode-only      {output_tokens} output tokens: {seconds / 2000 * 1e6:.0f} us a request")
    print(f"peak memory of this script {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
