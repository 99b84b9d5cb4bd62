"""How much the simulator does for a request, counted instead of timed: figures that do not flicker with the machine.

    python -m benchmarks.counted_work             count, and compare with what is recorded
    python -m benchmarks.counted_work --write     record (after a change that is meant to cost more, or that costs less)

For each case, per request: function calls of the loop (Python's and built-in ones), plans, steps, events of the clock, look-ups of the cost
model, bytes of the records, and bytes of the largest piece where they are taken in pieces of a tenth of the requests.
`tests/engine/test_counted_work.py` refuses more than is recorded in `counted_work.json`. Function calls depend on the version of Python and
are compared on that of the record only.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
import unittest.mock
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.oracle import fields
from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.cost.step import StepCost
from simserve.engine import simulate
from simserve.engine.clock import Agenda

RECORD = Path(__file__).with_name("counted_work.json")

PYTHON = ".".join(platform.python_version_tuple()[:2])

LOOK_UPS = ("step_time", "decode_times", "verify_times", "stage_times", "stage_decode_times")


def case(instances: int, requests: int, *, group: Any = None, cluster: Any = None, workload: Any = None, rate: float = 3.5) -> Any:
    """An experiment like W2 of `w2.py`, on so many instances."""
    scheduler = {"policy": "sarathi", "token_budget": 512, "max_seqs": 128}
    return {
        "model": "llama-2-7b",
        "hardware": "a100-sxm-80gb",
        "engine": "sarathi-serve",
        "cluster": {"instances": [{"count": instances, "scheduler": scheduler, **(group or {})}], **(cluster or {})},
        "workload": {
            "arrivals": {"kind": "poisson", "rate_per_s": rate * instances},
            "lengths": {
                "prompt": {"kind": "lognormal", "median_tokens": 800, "sigma": 0.9, "max_tokens": 3072},
                "output": {"kind": "lognormal", "median_tokens": 130, "sigma": 0.9, "max_tokens": 1000},
            },
            "count": requests,
            **(workload or {}),
        },
    }


def cases() -> dict[str, Any]:
    """The cases by name."""
    alone = {"arrivals": {"kind": "constant", "rate_per_s": 0.01}, "count": 100}
    lengths = {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10_000}}
    move = {"controllers": [{"policy": "llumnix-migration"}], "network": {"bytes_per_s": 8e9}, "router": {"policy": "freeness"}}
    return {
        "one instance": case(1, 1000),
        "64 instances": case(64, 2000),
        "four stages": case(1, 300, group={"parallel": {"pp": 4}}),
        "64 instances, migration polls": case(64, 2000, cluster=move),
        "10,000 output tokens": case(1, 100, workload={**alone, "lengths": lengths}),
        "vllm-v1": {**case(1, 1000, group={"scheduler": {"policy": "vllm-v1", "max_seqs": 128}}), "engine": "vllm-v1"},
    }


def counted(experiment: Any) -> dict[str, float]:
    """What the loop does for each request of an experiment."""
    loaded = load(experiment)
    parts = assemble(loaded)
    simulate(parts.workload, parts.instances, parts.cluster)  # fills what is filled once
    parts = assemble(loaded)
    requests = len(parts.workload.requests)
    profile = cProfile.Profile()
    profile.runcall(simulate, parts.workload, parts.instances, parts.cluster)
    found = {"function calls": pstats.Stats(profile).total_calls / requests}  # type: ignore[attr-defined]
    calls: Counter[str] = Counter()
    parts = assemble(loaded)
    counting = {name: _counting(calls, "look-ups", StepCost, name) for name in LOOK_UPS}
    with (
        unittest.mock.patch.multiple(StepCost, **counting),
        unittest.mock.patch.object(Agenda, "at", _counting(calls, "events", Agenda, "at")),
    ):
        records = simulate(parts.workload, parts.instances, parts.cluster)
    found |= {f"{name} of {what}": calls[name] / requests for name, what in (("events", "the clock"), ("look-ups", "the cost model"))}
    found |= {name: records.counters[name] / requests for name in ("plans", "steps")}
    found["bytes of records"] = _bytes(records) / requests
    parts, sizes = assemble(loaded), []
    simulate(
        *(parts.workload, parts.instances, parts.cluster),
        pieces=lambda piece: sizes.append(_bytes(piece.records) + _bytes(piece.lanes)),
        piece_requests=requests // 10,
    )
    found["bytes of the largest piece"] = max(sizes) / requests
    return {name: round(value, 3) for name, value in found.items()}


def _bytes(records: Any) -> int:
    """Of what is kept of requests, steps and tokens."""
    return sum(len(value) for name, value in fields(records) if not name.startswith(("table", "instances", "counters")))


def _counting(calls: Counter[str], name: str, owner: type, method: str) -> Callable[..., Any]:
    original = getattr(owner, method)

    def call(*arguments: Any, **named: Any) -> Any:
        calls[name] += 1
        return original(*arguments, **named)

    return call


def recorded() -> dict[str, Any]:
    """The record: `python` and, by case, `counts`."""
    found: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    before = recorded()["counts"] if RECORD.is_file() else {}
    counts = {name: counted(experiment) for name, experiment in cases().items()}
    for name, found in counts.items():
        print(name)
        for what, value in found.items():
            known = before.get(name, {}).get(what)
            print(f"    {what:30s} {value:12,.2f}" + ("" if not known else f"   {value / known:6.3f} of the record"))
    if options.write:
        RECORD.write_text(json.dumps({"python": PYTHON, "counts": counts}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
