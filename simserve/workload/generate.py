"""Synthetic traces by name or from the `workload:` section of a YAML file."""

from __future__ import annotations

from pathlib import Path

from simserve.errors import ConfigError
from simserve.workload.requests import RequestTable


def generate_trace(source: str, *, days: float = 61.0, start_day: float = 0.0, sessions: bool = False, seed: int = 0) -> RequestTable:
    """The requests of `burstgpt-like`, or of the `workload:` section of the YAML file `source` (an experiment will do).

    Raises ConfigError for anything else.
    """
    if source == "burstgpt-like":
        from simserve.workload.generators.burstgpt import burstgpt_like

        return burstgpt_like(days, seed, start_day, sessions=sessions)
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"'{source}': what to generate is 'burstgpt-like' or a YAML file that holds a 'workload:' section")
    from simserve.files import messages, yaml_text
    from simserve.workload.config import WorkloadConfig, build_workload

    document = yaml_text.read(path)
    if "workload" not in document.data:
        raise ConfigError(f"{path}: has no 'workload:' section")
    config, mistakes = messages.check(WorkloadConfig, document.data["workload"], document, ("workload",))
    messages.fail(str(path), mistakes)
    assert isinstance(config, WorkloadConfig)
    return build_workload(config, path.resolve().parent, seed).requests
