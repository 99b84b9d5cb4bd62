"""Drivers of real schedulers, one module an engine, with the engine installed where Python runs. Each has two functions:

version() -> str                                of the engine that is installed
drive(workload: ScheduleWorkload) -> Schedule   what its scheduler does with a workload
"""

from __future__ import annotations

import importlib
from typing import Protocol

from simserve.errors import ConfigError, nearest
from simserve.validation.schedules.schedule import Schedule
from simserve.validation.schedules.workload import ScheduleWorkload

DRIVERS = {"vllm": "vllm", "vllm-ascend": "vllm_ascend", "sglang": "sglang"}
"""Engine, as fixtures name it -> module of this package."""


class Driver(Protocol):
    """How an engine's scheduler is driven. Both raise EngineUnavailable where it is not installed, cannot be imported or has changed its
    interface; `drive` raises Unsupported where the version has no rule for what a workload asks."""

    def version(self) -> str:
        """Of the installed engine."""
        ...

    def drive(self, workload: ScheduleWorkload) -> Schedule:
        """What the installed engine's scheduler does with a workload."""
        ...


def driver(engine: str) -> Driver:
    """The driver of an engine. Raises ConfigError for one that has none."""
    if engine not in DRIVERS:
        raise ConfigError(f"engine '{engine}': its scheduler is not driven{nearest(engine, DRIVERS)}")
    module: Driver = importlib.import_module(f"{__name__}.{DRIVERS[engine]}")
    return module
