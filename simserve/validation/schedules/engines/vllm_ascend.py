"""vLLM-Ascend's scheduling, in vLLM's engine core on a CPU (`engines/vllm`). What it adds to scheduling imports vLLM alone, no NPU.

It leaves vLLM's scheduler as it is, unless its own is enabled (ascend_scheduler_config; 0.11.0: platform.py:291), which takes whole
prompts, and those before any decode: here for workloads without chunked prefill.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from simserve.validation.schedules.engines import vllm
from simserve.validation.schedules.engines.vllm_configuration import configuration, imported, installed_version
from simserve.validation.schedules.refusals import EngineUnavailable
from simserve.validation.schedules.schedule import Schedule
from simserve.validation.schedules.workload import ScheduleSettings, ScheduleWorkload

NAME = "vllm-ascend"


def version() -> str:
    """Of the installed vLLM-Ascend. Raises EngineUnavailable where there is none."""
    return installed_version(NAME)


def drive(workload: ScheduleWorkload) -> Schedule:
    """What its scheduler does with a workload. Raises as `vllm.drive`; also where the vLLM beside it is of another version."""
    installed, beneath = version(), vllm.version()
    if installed.split(".")[:2] != beneath.split(".")[:2]:
        raise EngineUnavailable(f"vLLM-Ascend {installed} needs the vLLM of the same version beside it, not {beneath}")
    return vllm.driven(workload, NAME, installed, lambda settings: _configured(settings, beneath))


def _configured(settings: ScheduleSettings, beneath: str) -> Any:
    made = configuration(settings, beneath)
    if not settings.chunked:
        own = imported("vllm_ascend.core.schedule_config").AscendSchedulerConfig
        made.scheduler_config = own.initialize_from_config(made.scheduler_config, SimpleNamespace(enabled=True))
    return made
