"""Policies by name: the built-in ones and those of installed packages (entry-point group `simserve.schedulers`)."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from simserve.errors import ConfigError, nearest

SCHEDULER_GROUP = "simserve.schedulers"

_BUILT_IN_SCHEDULERS = {
    "vllm-v0": "simserve.policies.scheduling.vllm_v0:VllmV0",
    "vllm-v1": "simserve.policies.scheduling.vllm_v1:VllmV1",
    "sarathi": "simserve.policies.scheduling.sarathi:Sarathi",
    "fastgen": "simserve.policies.scheduling.fastgen:FastGen",
    "orca": "simserve.policies.scheduling.orca:Orca",
    "static": "simserve.policies.scheduling.static:Static",
}

_ORDERS = {
    "fcfs": "simserve.policies.ordering.fcfs",
    "priority": "simserve.policies.ordering.priority",
    "shortest-job": "simserve.policies.ordering.shortest_job",
    "longest-prefix": "simserve.policies.ordering.longest_prefix",
}

_ROUTERS = {
    "round-robin": "simserve.policies.routing.round_robin:RoundRobin",
    "least-outstanding": "simserve.policies.routing.least_outstanding:LeastOutstanding",
}


@cache
def _schedulers() -> dict[str, EntryPoint]:
    found = {name: EntryPoint(name, value, SCHEDULER_GROUP) for name, value in _BUILT_IN_SCHEDULERS.items()}
    for point in entry_points(group=SCHEDULER_GROUP):
        found.setdefault(point.name, point)
    return found


def scheduler_names() -> list[str]:
    """Names that `scheduler_class` knows."""
    return sorted(_schedulers())


def scheduler_class(name: str) -> Any:
    """The policy class of that name (see policies/contract.py). ConfigError with the nearest right name if there is none."""
    points = _schedulers()
    if name not in points:
        raise ConfigError(f"unknown scheduling policy '{name}'{nearest(name, points)}")
    try:
        return points[name].load()
    except (ImportError, AttributeError) as problem:
        raise ConfigError(f"scheduling policy '{name}' cannot be loaded from {points[name].value}: {problem}") from problem


def order_names() -> list[str]:
    """Names that `order` knows."""
    return sorted(_ORDERS)


def order(name: str) -> ModuleType:
    """The waiting order of that name: a module with `key` (None = first come, first served), `victim_key`, `oracle` and
    `dynamic` (the key changes with what the prefix cache holds)."""
    if name not in _ORDERS:
        raise ConfigError(f"unknown waiting order '{name}'{nearest(name, _ORDERS)}")
    return importlib.import_module(_ORDERS[name])


def router_names() -> list[str]:
    """Names that `router` knows."""
    return sorted(_ROUTERS)


def router(name: str) -> Any:
    """A new router of that name: an object with `choose(instances) -> instance`."""
    if name not in _ROUTERS:
        raise ConfigError(f"unknown router '{name}'{nearest(name, _ROUTERS)}")
    return EntryPoint(name, _ROUTERS[name], "simserve.routers").load()()
