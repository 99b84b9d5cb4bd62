"""A hunt: many random experiments under `--check`, with a time limit for each.

    python -m tests.engine.campaign --seeds 0-4999 --folder /tmp/hunt

Every outcome is a line of FOLDER/outcomes.jsonl; seeds that stand there already are not run again. An experiment that ends in anything
but a result or a plain refusal is written to FOLDER as YAML (with its trace), and printed.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import simserve
from simserve.config import deployment, shared_costs
from simserve.engine.records import RunRecords, Status
from simserve.errors import ConfigError, ModelError, TraceError
from tests.engine.random_experiments import RandomExperiment, experiment
from tests.engine.wider_experiments import wider

SECONDS = 30
"""CPU seconds: how long a case takes must not depend on what else the machine does."""


class TooSlow(BaseException):
    """The case has run for longer than its limit. Not an Exception: nothing on the way may swallow it."""


def run(case: RandomExperiment, folder: Path, check: bool = True, fast_forward: bool = True) -> Any:
    """The result of the experiment; its trace is written to `folder`."""
    mapping = case.mapping
    if case.trace:
        path = folder / mapping["workload"]["trace"]["path"]
        path.write_text("".join(json.dumps(line) + "\n" for line in case.trace))
        mapping = {**mapping, "workload": {**mapping["workload"], "trace": {**mapping["workload"]["trace"], "path": str(path)}}}
    return simserve.run(mapping | {"fast_forward": fast_forward}, check=check)


def digest(records: RunRecords) -> str:
    """A hash of all that a run leaves: columns, lanes, emissions, moves, states of instances, counters."""
    state = hashlib.sha256()
    groups = [records.requests, records.emissions, *records.lanes, *([records.moves] if records.moves is not None else [])]
    for group in groups:
        for name in group.__dataclass_fields__:
            if name in NEWER:
                continue
            value = getattr(group, name)
            state.update(name.encode() + (value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()))
    counters = sorted((name, value) for name, value in records.counters.items() if name not in NEWER)
    state.update(repr((records.end_s, records.instance_states, counters)).encode())
    return state.hexdigest()[:16]


NEWER = frozenset({"reread_tokens"})
"""Columns and counters that earlier versions lack; left out, so that hashes can be compared."""


def outcome(case: RandomExperiment, folder: Path, seconds: int = SECONDS, check: bool = True) -> dict[str, Any]:
    """What became of the experiment: kind (ok, refused, broken, hung), what was said, how long it took, a hash of the records."""
    begin = time.process_time()

    def late(number: int, frame: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    found: dict[str, Any] = {"seed": case.seed, "kind": "ok"}
    try:
        records = run(case, folder, check).records
        r = records.requests
        found |= {
            "hash": digest(records),
            "completed": int((r.status == Status.COMPLETED).sum()),
            "preemptions": int(r.preemptions.sum()),
            "cached": bool(r.cached_tokens.any()),
            "reread": bool(r.reread_tokens.any()),
            "transferred": bool(records.counters["transferred_tokens"]),
            "migrated": bool(records.counters["migrated_tokens"]),
            "died": bool(records.counters["instance_failures"]),
            "scaled": any(state == "draining" for _, _, state in records.instance_states),
            "staged": len(records.lanes) > len(records.instances),
            "cancelled": bool((r.status == Status.CANCELLED).any()),
            "cut": bool((r.status == Status.UNFINISHED).any()),
        }
    except (ConfigError, ModelError, TraceError) as problem:
        found |= {"kind": "refused", "said": str(problem)[:300]}
    except TooSlow:
        found |= {"kind": "hung", "said": f"no end after {seconds} s"}
    except Exception as problem:
        where = traceback.extract_tb(problem.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        found |= {"kind": "broken", "said": f"{type(problem).__name__}: {problem}"[:400], "where": place}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return found | {"seconds": round(time.process_time() - begin, 2)}


def smaller(case: RandomExperiment) -> Iterator[RandomExperiment]:
    """Experiments with one thing less: parts of the cluster, of the experiment, half of the requests."""
    mapping = case.mapping

    def copy() -> Any:
        return json.loads(json.dumps(mapping))

    for key in ("slo", "metrics", "until_s"):
        if key in mapping:
            yield RandomExperiment(case.seed, {k: v for k, v in copy().items() if k != key}, case.trace)
    for key in ("failures", "controllers", "network", "router", "migration"):
        if key in mapping["cluster"] and not (key == "migration" and "controllers" in mapping["cluster"]):
            found = copy()
            del found["cluster"][key]
            if key == "controllers":
                found["cluster"].pop("migration", None)
            yield RandomExperiment(case.seed, found, case.trace)
    for index, one in enumerate(mapping["cluster"]["instances"]):
        for key, value in (("max_count", None), ("order", None), ("count", 1)):
            if key in one and one[key] != value:
                found = copy()
                found["cluster"]["instances"][index].pop(key)
                found["cluster"]["instances"][index].pop("boot_s" if key == "max_count" else "", None)
                yield RandomExperiment(case.seed, found, case.trace)
        for key in ("preemption", "watermark", "prefix_caching"):
            if key in one["kv"]:
                found = copy()
                found["cluster"]["instances"][index]["kv"].pop(key)
                yield RandomExperiment(case.seed, found, case.trace)
    for key in ("slo_classes", "closed_loop", "max_output_tokens"):
        if key in mapping["workload"] and not (key == "closed_loop" and "arrivals" not in mapping["workload"]):
            found = copy()
            del found["workload"][key]
            yield RandomExperiment(case.seed, found, case.trace)
    if case.trace and len(case.trace) > 1:
        for kept in (len(case.trace) // 2, len(case.trace) - 1):
            yield RandomExperiment(case.seed, mapping, case.trace[:kept])
    elif mapping["workload"].get("count", 1) > 1:
        for count in (mapping["workload"]["count"] // 2, mapping["workload"]["count"] - 1):
            found = copy()
            found["workload"]["count"] = count
            yield RandomExperiment(case.seed, found)


def minimal(case: RandomExperiment, fails: Callable[[RandomExperiment], bool], tries: int = 60) -> RandomExperiment:
    """The smallest experiment found that still fails, taking one thing away after another."""
    found = True
    while found and tries > 0:
        found = False
        for other in smaller(case):
            tries -= 1
            if fails(other):
                case, found = other, True
                break
            if tries <= 0:
                break
    return case


def keep(case: RandomExperiment, folder: Path) -> Path:
    """Writes the experiment, and its trace beside it, so that `simserve run FILE --check` runs it."""
    if case.trace:
        (folder / case.mapping["workload"]["trace"]["path"]).write_text("".join(json.dumps(line) + "\n" for line in case.trace))
    path = folder / f"random-{case.seed}.yaml"
    path.write_text(yaml.safe_dump(case.mapping, sort_keys=False))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-199", help="first and last seed, e.g. 0-4999")
    parser.add_argument("--folder", type=Path, default=None, help="for outcomes and reproducers; a hunt in the same folder is resumed")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="limit of one experiment, CPU seconds")
    parser.add_argument("--wider", action="store_true", help="experiments of wider_experiments.py, some of which are to be refused")
    parser.add_argument("--no-check", action="store_true", help="run plainly, for the hashes")
    parser.add_argument("--no-minimal", action="store_true", help="keep a failing experiment as it was drawn")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    # Most of the time of a small run goes into the tables of its cost model, of which there are a hundred and not thousands.
    deployment.cost_of = functools.lru_cache(maxsize=None)(shared_costs.cost_of.__wrapped__)
    shared_costs._tables = functools.lru_cache(maxsize=None)(shared_costs._tables.__wrapped__)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="campaign-"))
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "outcomes.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {line["seed"] for line in lines}
    seen = Counter(line["kind"] for line in lines)
    with tempfile.TemporaryDirectory() as scratch, log.open("a") as out:
        work = Path(scratch)
        for seed in range(int(first), int(last or first) + 1):
            if seed in known:
                continue
            case = wider(seed) if options.wider else experiment(seed)
            found = outcome(case, work, options.seconds, not options.no_check)
            seen[found["kind"]] += 1
            out.write(json.dumps(found) + "\n")
            out.flush()
            if found["kind"] in ("broken", "hung"):
                if not options.no_minimal:
                    limit = 3 if found["kind"] == "hung" else options.seconds

                    def fails(other: RandomExperiment, found: dict[str, Any] = found, limit: int = limit) -> bool:
                        again = outcome(other, work, limit)
                        return again["kind"] == found["kind"] and again.get("where") == found.get("where")

                    case = minimal(case, fails)
                print(f"seed {seed}: {found['kind']}: {found['said']} ({keep(case, folder)})", flush=True)
    print(f"{folder}: {dict(seen)}")
    return 1 if seen["broken"] or seen["hung"] else 0


if __name__ == "__main__":
    sys.exit(main())
