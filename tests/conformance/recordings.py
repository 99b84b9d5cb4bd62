"""The recorded schedules of real engines, and what each is held against."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from simserve.validation.schedules.fixture import ScheduleCase, read_place

FOLDER = Path(__file__).parent / "fixtures"


@functools.cache
def recorded_cases() -> tuple[ScheduleCase, ...]:
    """All of them, kind by kind."""
    return tuple(read_place(FOLDER))


def first_of_each_kind(count: int) -> list[ScheduleCase]:
    """The first so many workloads of each engine and kind."""
    seen: dict[tuple[str, str], int] = {}
    kept = []
    for case in recorded_cases():
        key = engine_of(case), case.workload.kind
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= count:
            kept.append(case)
    return kept


def engine_of(case: ScheduleCase) -> str:
    """The engine that a workload is for."""
    return next(one.engine for one in (*case.schedules, *case.not_driven))


def of_version(engine: str, version: str, kinds: tuple[str, ...]) -> Iterator[ScheduleCase]:
    """The workloads of some kinds, with what one version did."""
    for case in recorded_cases():
        found = case.of(engine, version)
        if case.workload.kind in kinds and found is not None:
            yield replace(case, schedules=(found,), not_driven=())
