"""Old against new: do two checkouts compute the same? Every column of every RunRecords bit by bit, every figure of every summary.

    git worktree add /tmp/old REVISION
    PYTHONPATH=/tmp/old python benchmarks/oracle.py digest cases.jsonl > old.json
    PYTHONPATH=.        python benchmarks/oracle.py digest cases.jsonl > new.json
    python benchmarks/oracle.py compare old.json new.json [--renamed map.json]

A line of cases.jsonl is an experiment as a mapping, or the name of a bundled one as text (`oracle.py bundled` prints these, cut to a few
hundred requests); `python -m tests.engine.campaign` draws random ones. A run that ends with an error counts with its kind: two checkouts
agree on a case when both refuse it. Columns and keys that only one side has are listed apart and do not count as differences;
`--renamed` is a JSON object {old key: new key} of summary keys and columns of records, * for any one part of a dotted key; without it
`benchmarks/renamed_keys.json`, the names that have changed so far. `compare` exits with 1 when anything differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RENAMED = Path(__file__).parent / "renamed_keys.json"

LIMIT_S = 60
"""A case that takes longer counts as endless."""


class EndlessError(Exception):
    """A case that did not end in time."""


def fields(value: Any, name: str = "") -> Iterator[tuple[str, bytes]]:
    """(dotted name, bytes) of every leaf of a records value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from fields(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)
    elif isinstance(value, np.ndarray):
        yield name, str(value.dtype).encode() + str(value.shape).encode() + value.tobytes()
    elif isinstance(value, dict):
        for key in value:
            yield from fields(value[key], f"{name}.{key}")
    elif isinstance(value, list | tuple) and value and dataclasses.is_dataclass(value[0]):
        for item in value:
            yield from fields(item, f"{name}[]")
    else:
        yield name, repr(value).encode()


def digests(records: Any) -> dict[str, str]:
    """One digest by name of a column, over all lanes or instances that have it."""
    found: dict[str, Any] = {}
    for name, content in fields(records):
        found.setdefault(name, hashlib.sha256()).update(content)
    return {name: digest.hexdigest()[:16] for name, digest in found.items()}


def figures(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, figure) of a summary."""
    if isinstance(value, dict):
        for key in value:
            yield from figures(value[key], f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from figures(item, f"{name}.{index}")
    elif isinstance(value, float) and math.isnan(value):
        yield name, "nan"
    else:
        yield name, value


def digest(case: Any) -> dict[str, Any]:
    """What a case computes, or how it ends."""
    import simserve

    def late(number: int, frame: Any) -> None:
        raise EndlessError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        if isinstance(case, dict) and "bundled" in case:
            result = simserve.run(case["bundled"], **case.get("overrides", {}))
        else:
            result = simserve.run(case)
        summary = dict(figures(result.summary_dict()))
        return {"records": digests(result.records), "summary": {k: v for k, v in summary.items() if not k.startswith("provenance")}}
    except EndlessError:
        return {"error": "endless"}
    except simserve.SimserveError as error:
        return {"error": type(error).__name__, "message": str(error)[:200]}
    except Exception as error:
        return {"error": f"bug: {type(error).__name__}", "message": str(error)[:200]}
    finally:
        signal.alarm(0)


def bundled() -> Iterator[dict[str, Any]]:
    """The bundled experiments, cut to a few hundred requests."""
    import simserve
    from simserve import resources

    for name in resources.available("experiments"):
        case: dict[str, Any] = {"bundled": name}
        for key, value in (("workload.count", 300), ("workload.trace.limit", 300)):
            try:
                simserve.load(name, **{key: value})
            except simserve.SimserveError:
                continue
            case["overrides"] = {key: value}
            break
        yield case


def under_new_names(values: dict[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    """The values of an old side by the keys of the new one; `renamed` as `--renamed`."""
    patterns = [
        (re.compile(re.escape(old).replace(r"\*", "([^.]+)") + r"\Z"), new.replace("*", r"\1"))  # one * a key at most
        for old, new in renamed.items()
    ]

    def now(key: str) -> str:
        return next((pattern.sub(new, key) for pattern, new in patterns if pattern.match(key)), key)

    return {now(key): value for key, value in values.items()}


def compare(old: dict[str, Any], new: dict[str, Any], renamed: dict[str, str]) -> int:
    """Prints what differs; returns how many cases do."""
    differing, alone, kinds = 0, set(), {}
    for key in old:
        a, b = old[key], new.get(key)
        if b is None:
            continue
        if "error" in a or "error" in b:
            if a.get("error") != b.get("error"):
                differing += 1
                print(key[:400])
                for side, end in (("old", a), ("new", b)):
                    print(f"  {side}: {end.get('error', 'runs')} {end.get('message', '')}")
            continue
        sides = tuple((under_new_names(a[part], renamed), under_new_names(b[part], renamed)) for part in ("records", "summary"))
        alone |= {k for x, y in sides for k in x.keys() ^ y.keys()}
        wrong = [k for x, y in sides for k in x.keys() & y.keys() if x[k] != y[k]]
        if wrong:
            differing += 1
            for k in wrong:
                kinds[k] = kinds.get(k, 0) + 1
            print(f"{key[:400]}\n  {len(wrong)} differ: {', '.join(sorted(wrong)[:12])}")
    both = len(old.keys() & new.keys())
    errors = sum("error" in old[k] for k in old.keys() & new.keys())
    print(f"{both} cases on both sides ({errors} end with an error in the old one), {differing} differ")
    if alone:
        print(f"on one side only: {', '.join(sorted(alone)[:40])}")
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("bundled")
    one = commands.add_parser("digest")
    one.add_argument("cases", type=Path)
    two = commands.add_parser("compare")
    two.add_argument("old", type=Path)
    two.add_argument("new", type=Path)
    two.add_argument("--renamed", type=Path, default=RENAMED)
    options = parser.parse_args()
    if options.command == "bundled":
        for case in bundled():
            print(json.dumps(case))
        return 0
    if options.command == "digest":
        found = {}
        start = time.monotonic()
        lines = options.cases.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            found[line] = digest(json.loads(line))
            if number % 50 == 0 or number == len(lines):
                print(f"{number} of {len(lines)} cases, {time.monotonic() - start:.0f} s", file=sys.stderr)
        json.dump(found, sys.stdout)
        return 0
    renamed = json.loads(options.renamed.read_text(encoding="utf-8"))
    return 1 if compare(json.loads(options.old.read_text()), json.loads(options.new.read_text()), renamed) else 0


if __name__ == "__main__":
    sys.exit(main())
