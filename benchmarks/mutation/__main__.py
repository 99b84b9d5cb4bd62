"""Would the tests notice a fault? Small random faults (mutants) in the source, each against the tests that reach its line.

    pip install 'simserve[test]' cosmic-ray coverage
    python -m benchmarks.mutation --packages policies cost --count 40 --seed 1 --work /tmp/mutation

The repository is copied to WORK/tree and broken only there. First it is measured which tests reach which lines (once: minutes; afterwards
only for test files that changed). Then mutants are drawn (`sites.py`), each is tried (`trial.py`) and written to WORK/results.jsonl, so a
run that was stopped goes on where it was. The table goes to standard output and WORK/table.md, progress to standard error.

A survivor is a fact that no test states, or it is equivalent: no test can see it. Those that were looked at are in `survivors.yaml`.
Exit code 1 when fewer than `--least` per cent of the conclusive, non-equivalent mutants were killed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

from benchmarks.mutation import reach, sites, table, trial
from benchmarks.mutation import tree as trees
from benchmarks.mutation.warm import Warm

ROOT = Path(__file__).resolve().parents[2]

QUICK = 3
"""So many of the quickest tests that killed another mutant of the file are asked first."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", nargs="+", choices=[*sites.PACKAGES], default=[*sites.PACKAGES])
    parser.add_argument("--count", type=int, default=40, help="mutants of each package")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True, help="folder for the copy, the map of tests and the results")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="folders of tests to measure")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of tests against one mutant")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop drawing after this long")
    parser.add_argument("--least", type=float, default=0.0, help="per cent that must be killed")
    parser.add_argument("--only-reach", action="store_true", help="measure which tests reach what, and stop")
    return parser.parse_args()


def main() -> int:
    given = options()
    began = time.monotonic()
    work = given.work.resolve()
    tree = work / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    trees.preload()
    trees.copy(ROOT, tree)
    reach.measure(tree, work, given.tests, given.packages, limit_s=1200.0)
    if given.only_reach:
        return 0
    known = reach.Reach(tree, work)
    warm = Warm(tree, sorted({test.split("::")[0] for test in known.seconds}), work / "warm.log")
    results = work / "results.jsonl"
    done = {row["key"]: row for row in map(json.loads, results.read_text().splitlines())} if results.exists() else {}
    rows = []
    for package in given.packages:
        for number, mutant in enumerate(itertools.islice(sites.draw(tree, package, given.seed), given.count), 1):
            row = done.get(mutant.key)
            if row is None:
                if time.monotonic() - began > 60 * given.minutes:
                    break
                killers = {row["by"] for row in done.values() if row["path"] == mutant.path and row["state"] == trial.KILLED}
                quick = sorted(killers & known.seconds.keys(), key=lambda test: known.seconds[test])[:QUICK]
                outcome = trial.try_out(mutant, tree, work, known, warm, given.seconds, quick)
                row = {"key": mutant.key, "seed": given.seed, **mutant._asdict(), **outcome._asdict()}
                done[mutant.key] = row
                with results.open("a") as out:
                    out.write(json.dumps(row) + "\n")
                place = f"{mutant.path}:{mutant.line}"
                print(f"{package} {number}/{given.count} {place} {outcome.state}, {outcome.seconds:.1f} s: {outcome.by}", file=sys.stderr)
            rows.append({**row, **mutant._asdict()})
    warm.close()
    listed = table.Listed()
    for entry in listed.gone(tree):
        print(f"{table.LISTED.name}: no line '{entry['was']}' in {entry['file']} any more", file=sys.stderr)
    text = table.markdown(rows, listed)
    (work / "table.md").write_text(text)
    print(text)
    states = [row["state"] for row in rows if (entry := listed.find(row)) is None or entry["kind"] != "equivalent"]
    looked = [state for state in states if state != trial.INCONCLUSIVE]
    return 0 if not looked or 100 * looked.count(trial.KILLED) >= given.least * len(looked) else 1


if __name__ == "__main__":
    sys.exit(main())
