"""The recorded schedules of real engines, one file a kind."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from simserve.validation.schedules.fixture import ScheduleCase, read_cases

FOLDER = Path(__file__).parent / "fixtures"
FILES = sorted(FOLDER.glob("*.json.gz"))


@functools.cache
def of_file(path: Path) -> tuple[ScheduleCase, ...]:
    """The workloads of a file."""
    return tuple(read_cases(path))


def of_version(engine: str, version: str, kinds: Sequence[str]) -> Iterator[ScheduleCase]:
    """The workloads of some kinds, with what one version did."""
    for kind in kinds:
        for case in of_file(FOLDER / f"{kind}.json.gz"):
            found = case.of(engine, version)
            if found is not None:
                yield replace(case, schedules=(found,), not_driven=())
