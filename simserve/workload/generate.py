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
    import yaml
    from pydantic import ValidationError

    from simserve.workload.config import WorkloadConfig, build_workload

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read ({e.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(e).split())})") from None
    if not isinstance(document, dict) or "workload" not in document:
        raise ConfigError(f"{path}: has no 'workload:' section")
    try:
        config = WorkloadConfig.model_validate(document["workload"])
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in ("workload", *first["loc"]))
        raise ConfigError(f"{path}: {where}: {first['msg']}") from None
    return build_workload(config, path.resolve().parent, seed).requests
