"""Which key of an experiment is its load, and what it stands at."""

from __future__ import annotations

from typing import Any

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError


def rate_key(experiment: Experiment) -> str:
    """The key that makes the load heavier. Raises ConfigError for a workload that has no single one."""
    workload = experiment.spec.workload
    if workload is None:
        raise ConfigError(f"{experiment.name}: has probes and no workload, so no rate")
    if workload.closed_loop is not None:
        return "workload.closed_loop.concurrency"
    if workload.arrivals is not None:
        if not hasattr(workload.arrivals, "rate_per_s"):
            raise ConfigError(
                f"arrivals of kind '{workload.arrivals.kind}' have no single rate; say which key is the rate with --rate-key, "
                "for example workload.arrivals.rate_per_s of kind poisson"
            )
        return "workload.arrivals.rate_per_s"
    return f"workload.{'trace' if workload.trace is not None else 'burstgpt_like'}.rate_scale"


def value_at(experiment: Experiment, key: str) -> float | int:
    """The number at a dotted key of the experiment. Raises ConfigError when there is none or it is not positive."""
    node: Any = experiment.resolved()
    for part in key.split("."):
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, bool) or not isinstance(node, int | float) or node <= 0:
        found = "nothing" if node is None else repr(node)
        raise ConfigError(f"rate key '{key}': found {found} in the experiment, expected a number above 0 to start from")
    return node


def unit(key: str) -> str:
    """What a rate at this key counts."""
    if key.endswith("rate_per_s"):
        return "requests/s"
    if key.endswith("rate_scale"):
        return f"x the {'trace' if 'trace' in key.split('.') else 'workload'}'s own rate"
    return "clients" if key.endswith("concurrency") else key.rsplit(".", 1)[-1]
