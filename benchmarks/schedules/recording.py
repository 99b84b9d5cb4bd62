"""Recording what versions of engines do, and holding it against simserve."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.schedules.environments import VERSIONS, environment
from simserve.config import verified_schedules
from simserve.errors import SimserveError
from simserve.validation.schedules.fixture import NotDriven, ScheduleCase, read_cases, read_place, write_cases
from simserve.validation.schedules.kinds import workloads
from simserve.validation.schedules.schedule import Schedule

ROOT = Path(__file__).resolve().parents[2]

FIXTURES = ROOT / "tests" / "conformance" / "fixtures"

SCRATCH = Path(tempfile.gettempdir()) / "simserve-engines"

COUNT = 276
"""Twelve workloads of each of vLLM's kinds."""


def record(
    engine: str,
    versions: Sequence[str],
    kinds: Sequence[str],
    count: int,
    seed: int,
    *,
    into: Path = FIXTURES,
    scratch: Path = SCRATCH,
    wheels: Path | None = None,
) -> None:
    """Records versions of an engine into a folder, a file a kind. Raises SimserveError where an environment cannot be built or an engine
    cannot be driven: nothing is written of a version that was not driven to the end."""
    workloads(engine, kinds, 1, seed)  # kinds that there are not
    into.mkdir(parents=True, exist_ok=True)
    for version in versions or VERSIONS[engine]:
        found = environment(engine, version, scratch, wheels)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "recorded.json.gz"
            words = ["--engine", engine, "--kinds", ",".join(kinds), "--count", str(count), "--seed", str(seed), "--out", str(out)]
            found.run("-m", "benchmarks.schedules", "drive", *words, more=(ROOT,))
            driven = read_cases(out)
        of = {one.version for case in driven for one in (*case.schedules, *case.not_driven)}
        if of != {version}:
            raise SimserveError(f"{engine} {version} was asked for, and {', '.join(sorted(of)) or 'nothing'} was driven")
        for kind in dict.fromkeys(case.workload.kind for case in driven):
            _put(into / f"{kind}.json.gz", engine, version, [one for one in driven if one.workload.kind == kind])
        print(f"{engine} {version}: {sum(len(one.schedules) for one in driven)} of {len(driven)} workloads recorded", flush=True)


def drive(engine: str, kinds: Sequence[str], count: int, seed: int, out: Path) -> None:
    """In a scratch environment: workloads through the engine that is installed there, into a file."""
    from simserve.progress.count import counting
    from simserve.validation.schedules.driving import driven

    with counting("workloads given to the engine") as progress:
        write_cases(out, driven(engine, workloads(engine, kinds, count, seed), progress=progress))


def verify(fixtures: Path) -> None:
    """Writes simserve/config/verified_schedules.yaml from recorded schedules."""
    from simserve.progress.count import counting
    from simserve.validation.schedules.compare import compare_cases
    from simserve.validation.schedules.verified import write

    with counting("schedules compared") as progress:
        found = compare_cases(read_place(fixtures), progress=progress)
    write(verified_schedules.FILE, found)
    print(f"{sum(one.verdict == 'equal' for one in found)} of {sum(one.verdict in ('equal', 'different') for one in found)} equal")


def hold(fixtures: Path) -> int:
    """Holds recorded schedules against simserve: 1 where one is not equal of a kind that is said to be equal throughout."""
    from simserve.progress.count import counting
    from simserve.validation.schedules.compare import compare_cases, tallies
    from simserve.validation.schedules.report import headline
    from simserve.validation.schedules.schedule import ENGINES

    said = {
        (one.engine, one.version, kind)
        for one in verified_schedules.everything().versions
        for kind in one.kinds
        if kind not in one.not_equal
    }
    with counting("schedules compared") as progress:
        counts = tallies(compare_cases(read_place(fixtures), progress=progress))
    worse = 0
    for one in counts:
        broken = one.different and (ENGINES[one.engine], one.version, one.kind) in said
        worse += bool(broken)
        if one.compared:
            tail = f": {headline(one.first)}" if one.first is not None else ""
            print(f"{one.label} {one.kind}: {one.equal} of {one.compared}{tail}{'  <- said to be equal' if broken else ''}")
    return 1 if worse else 0


def _put(path: Path, engine: str, version: str, cases: Sequence[ScheduleCase]) -> None:
    """Beside what is recorded of other versions under the same workloads."""
    earlier = {one.workload: one for one in read_cases(path)} if path.is_file() else {}
    dropped = {
        row.version for one in earlier.values() if one.workload not in {case.workload for case in cases} for row in one.schedules
    } - {version}
    if dropped:
        print(f"{path.name}: other workloads than before; record {', '.join(sorted(dropped))} again", file=sys.stderr)
    order = {name: number for number, name in enumerate(VERSIONS.get(engine, ()))}

    def place(one: Schedule | NotDriven) -> tuple[str, int, str]:
        return one.engine, order.get(one.version, len(order)), one.version

    merged = []
    for case in cases:
        there = earlier.get(case.workload, ScheduleCase(case.workload))
        schedules = [*(one for one in there.schedules if (one.engine, one.version) != (engine, version)), *case.schedules]
        refused = [*(one for one in there.not_driven if (one.engine, one.version) != (engine, version)), *case.not_driven]
        merged.append(ScheduleCase(case.workload, tuple(sorted(schedules, key=place)), tuple(sorted(refused, key=place))))
    write_cases(path, merged)
