"""Workloads through an installed engine's scheduler. Loads nothing of simserve's own engine, so a scratch environment needs little."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simserve.validation.schedules.engines import driver
from simserve.validation.schedules.fixture import NotDriven, ScheduleCase
from simserve.validation.schedules.refusals import Unsupported
from simserve.validation.schedules.workload import ScheduleWorkload


def driven(engine: str, workloads: Sequence[ScheduleWorkload], *, progress: Callable[[int, int], None] | None = None) -> list[ScheduleCase]:
    """What the installed engine does with each workload.

    Raises ConfigError for an engine that has no driver, EngineUnavailable where it cannot be driven: nothing passes unseen.
    """
    one = driver(engine)
    version = one.version()
    cases = []
    for workload in workloads:
        try:
            cases.append(ScheduleCase(workload, (one.drive(workload),)))
        except Unsupported as refusal:
            cases.append(ScheduleCase(workload, not_driven=(NotDriven(engine, version, str(refusal)),)))
        if progress is not None:
            progress(len(cases), len(workloads))
    return cases
