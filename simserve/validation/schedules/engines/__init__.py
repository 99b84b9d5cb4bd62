"""Drivers of real schedulers, one module an engine: `drive(workload) -> Schedule` with the engine installed where Python runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from simserve.errors import ConfigError, nearest
from simserve.validation.schedules.schedule import Schedule
from simserve.validation.schedules.workload import ScheduleWorkload

DRIVERS = {"vllm": "vllm", "vllm-ascend": "vllm_ascend", "sglang": "sglang"}
"""Engine, as fixtures name it -> module of this package."""


def driver(engine: str) -> Callable[[ScheduleWorkload], Schedule]:
    """How an engine's scheduler is driven. Raises ConfigError for an engine that has no driver; calling what it answers with raises
    EngineUnavailable or Unsupported."""
    if engine not in DRIVERS:
        raise ConfigError(f"engine {engine!r}: its scheduler is not driven{nearest(engine, DRIVERS)}")
    drive: Callable[[ScheduleWorkload], Schedule] = importlib.import_module(f"{__name__}.{DRIVERS[engine]}").drive
    return drive
