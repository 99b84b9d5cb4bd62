"""One mutant against the tests that reach it: those of its own folder and the quick ones first."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.mutation import sites
from benchmarks.mutation import tree as trees
from benchmarks.mutation.reach import Reach
from benchmarks.mutation.warm import FAILED, TOO_LATE, Warm, limit_s

NARROW_S = 8.0
"""Seconds of tests in the first, narrow run."""

OWN = {
    "policies": ("tests/policies/", "tests/config/", "tests/engine/"),
    "workload": ("tests/workload/", "tests/config/"),
    "cost": ("tests/cost/", "tests/config/"),
    "metrics": ("tests/report/",),
    "study": ("tests/study/",),
    "engine": ("tests/engine/",),
}
"""Folders of tests that are asked first, in this order."""

KILLED, SURVIVED, UNREACHED, INCONCLUSIVE = "killed", "survived", "unreached", "inconclusive"


class Outcome(NamedTuple):
    """What became of a mutant."""

    state: str
    by: str
    """The test that failed; of a survivor, how many tests it survived."""
    seconds: float


class _Chosen:
    """A pytest plugin: only these tests, in this order, each with a time limit."""

    def __init__(self, seconds: dict[str, float], told: Path) -> None:
        self.seconds, self.told = seconds, told

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        place = {test: i for i, test in enumerate(self.seconds)}
        dropped = [item for item in items if item.nodeid not in place]
        config.hook.pytest_deselected(items=dropped)
        items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.told.write_text(nodeid)
        signal.signal(signal.SIGVTALRM, lambda *_: os._exit(trees.TIMED_OUT))
        signal.setitimer(signal.ITIMER_VIRTUAL, limit_s(self.seconds.get(nodeid, 1.0)))


def order(
    tests: set[str], seconds: dict[str, float], own: tuple[str, ...], budget_s: float, before: Sequence[str] = ()
) -> list[dict[str, float]]:
    """Two runs: the first of NARROW_S, the second of the rest of the budget. Tests `before` all others, then files together, own
    folders and quick files first."""

    def place(file: str) -> int:
        return next((i for i, folder in enumerate(own) if file.startswith(folder)), len(own))

    by_file: dict[str, dict[str, float]] = defaultdict(dict)
    for test in sorted(tests, key=lambda test: (seconds[test], test)):
        by_file[test.split("::")[0]][test] = seconds[test]
    narrow = {test: seconds[test] for test in before if test in tests}
    wide: dict[str, float] = {}
    total = sum(narrow.values())
    for _, members in sorted(by_file.items(), key=lambda kv: (place(kv[0]), sum(kv[1].values()), kv[0])):
        for test, taken in members.items():
            if test not in narrow and (total + taken <= budget_s or not narrow):
                (narrow if total + taken <= NARROW_S or not narrow else wide)[test] = taken
                total += taken
    return [run for run in (narrow, wide) if run]


def try_out(mutant: sites.Mutant, tree: Path, work: Path, reach: Reach, warm: Warm, budget_s: float, before: Sequence[str] = ()) -> Outcome:
    """Puts the mutant in its place in the tree and runs the tests, those `before` first: in the warm process, then from the beginning."""
    began = time.monotonic()
    path = tree / mutant.path
    source = path.read_text(encoding="utf-8")
    text = sites.mutated(source, mutant.operator, mutant.occurrence, sites.operators())
    assert text is not None
    tests = reach.tests(mutant.path, mutant.line)
    if not tests:
        return Outcome(UNREACHED, "no test reaches this line", 0.0)
    told = work / "at.txt"
    runs = order(tests, reach.seconds, OWN[mutant.package], budget_s, before)
    with trees.changed(path, text):
        if warm.ready and reach.in_function(mutant.path, mutant.line):
            tests_of = {test: taken for run in runs for test, taken in run.items()}
            one_by_one = [
                *(test for test in before if test in tests_of),
                *sorted(tests_of.keys() - set(before), key=lambda t: (tests_of[t], t)),
            ]
            code, by = warm.ask(path, source, text, one_by_one, [limit_s(tests_of[test]) for test in one_by_one])
            if code in (FAILED, TOO_LATE):
                return Outcome(KILLED if code == FAILED else INCONCLUSIVE, by, time.monotonic() - began)
        for run in runs:
            told.unlink(missing_ok=True)
            files = list(dict.fromkeys(test.split("::")[0] for test in run))
            limit = 5 * sum(run.values()) + 60 + 5 * len(files)
            code = trees.pytest_run(tree, ["-x", "--tb=line", *files], [_Chosen(run, told)], work / "trial.log", limit)
            by = told.read_text() if told.exists() else "nothing was collected"
            if code in (None, trees.TIMED_OUT):
                return Outcome(INCONCLUSIVE, f"endless in {by}", time.monotonic() - began)
            if code != 0:
                return Outcome(KILLED, by, time.monotonic() - began)
    ran = sum(len(run) for run in runs)
    return Outcome(SURVIVED, f"{ran} of {len(tests)} tests that reach it", time.monotonic() - began)
