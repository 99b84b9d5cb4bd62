"""The command line: see the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import benchmarks.schedules
from benchmarks.schedules import recording
from benchmarks.schedules.environments import VERSIONS
from simserve.errors import SimserveError


def main(words: list[str]) -> int:
    """Runs one command. Exit codes: 0, 1 (a kind is less equal than it was), 2 (bad input, an engine that cannot be driven)."""
    parser = argparse.ArgumentParser("python -m benchmarks.schedules", description=benchmarks.schedules.__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True, dest="command")
    record = commands.add_parser("record")
    record.add_argument("--engine", choices=sorted(VERSIONS), required=True)
    record.add_argument("--version", action="append", default=[], help="may be given several times")
    record.add_argument("--count", type=int, default=recording.COUNT, help="workloads, over all kinds")
    record.add_argument("--seed", type=int, default=0, help="of the first workload of each kind")
    record.add_argument("--kinds", default="", metavar="KIND,...")
    record.add_argument("--into", type=Path, default=recording.FIXTURES, metavar="FOLDER")
    record.add_argument("--scratch", type=Path, default=recording.SCRATCH, metavar="FOLDER", help="where environments are built and kept")
    record.add_argument("--wheels", type=Path, default=None, metavar="FOLDER", help="look for the engines' wheels here first")
    commands.add_parser("verify").add_argument("--fixtures", type=Path, default=recording.FIXTURES, metavar="FOLDER")
    commands.add_parser("hold").add_argument("fixtures", type=Path, metavar="FOLDER")
    drive = commands.add_parser("drive", help="what `record` calls in a scratch environment")
    for name in ("--engine", "--kinds", "--count", "--seed", "--out"):
        drive.add_argument(name, required=True)
    one = parser.parse_args(words)
    try:
        if one.command == "record":
            kinds = [kind for kind in one.kinds.split(",") if kind]
            recording.record(one.engine, one.version, kinds, one.count, one.seed, into=one.into, scratch=one.scratch, wheels=one.wheels)
        elif one.command == "verify":
            recording.verify(one.fixtures)
        elif one.command == "hold":
            return recording.hold(one.fixtures)
        else:
            kinds = [kind for kind in one.kinds.split(",") if kind]
            recording.drive(one.engine, kinds, int(one.count), int(one.seed), Path(one.out))
    except SimserveError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
