"""Policies by name: the built-in ones and those of installed packages.

Entry-point groups: `simserve.schedulers`, `simserve.routers`, `simserve.controllers` (classes, see simserve/contracts/policies.py) and
`simserve.orders` (modules like those in policies/ordering/). A built-in name cannot be taken over.
"""

from __future__ import annotations

from functools import lru_cache
from inspect import signature
from types import ModuleType
from typing import Any

from simserve import plugins
from simserve.contracts import PolicyParams, SchedulerParams
from simserve.errors import ConfigError, nearest
from simserve.files.words import clipped
from simserve.plugins import KINDS, Plugin

_BUILT_IN_SCHEDULERS = {
    "vllm-v0": "simserve.policies.scheduling.vllm_v0:VllmV0",
    "vllm-v1": "simserve.policies.scheduling.vllm_v1:VllmV1",
    "sglang": "simserve.policies.scheduling.sglang:Sglang",
    "sarathi": "simserve.policies.scheduling.sarathi:Sarathi",
    "fastgen": "simserve.policies.scheduling.fastgen:FastGen",
    "orca": "simserve.policies.scheduling.orca:Orca",
    "static": "simserve.policies.scheduling.static:Static",
    "distserve": "simserve.policies.scheduling.distserve:DistServe",
    "past-future": "simserve.policies.scheduling.past_future:PastFuture",
    "layered": "simserve.policies.scheduling.layered_prefill:LayeredPrefill",
    "xy-serve": "simserve.policies.scheduling.xy_serve:XyServe",
}

_BUILT_IN_ROUTERS = {
    "round-robin": "simserve.policies.routing.round_robin:RoundRobin",
    "least-outstanding": "simserve.policies.routing.least_outstanding:LeastOutstanding",
    "random": "simserve.policies.routing.random_choice:RandomChoice",
    "least-tokens": "simserve.policies.routing.least_tokens:LeastTokens",
    "shortest-queue": "simserve.policies.routing.shortest_queue:ShortestQueue",
    "power-of-two": "simserve.policies.routing.power_of_two:PowerOfTwo",
    "session-sticky": "simserve.policies.routing.session_sticky:SessionSticky",
    "prefix-affinity": "simserve.policies.routing.prefix_affinity:PrefixAffinity",
    "freeness": "simserve.policies.routing.freeness:MostFree",
    "splitwise": "simserve.policies.routing.splitwise:SplitwisePrompts",
    "splitwise-decode": "simserve.policies.routing.splitwise:SplitwiseTokens",
}

_BUILT_IN_CONTROLLERS = {
    "llumnix-migration": "simserve.policies.rebalancing.llumnix:LlumnixMigration",
    "llumnix-scaling": "simserve.policies.scaling.llumnix:LlumnixScaling",
    "hpa": "simserve.policies.scaling.hpa:Hpa",
    "keda": "simserve.policies.scaling.keda:Keda",
    "forecast": "simserve.policies.scaling.forecast:Forecast",
    "saturation": "simserve.policies.scaling.saturation:Saturation",
}

_BUILT_IN_ORDERS = {
    "fcfs": "simserve.policies.ordering.fcfs",
    "priority": "simserve.policies.ordering.priority",
    "shortest-job": "simserve.policies.ordering.shortest_job",
    "longest-prefix": "simserve.policies.ordering.longest_prefix",
}

_BUILT_IN = {
    "schedulers": _BUILT_IN_SCHEDULERS,
    "routers": _BUILT_IN_ROUTERS,
    "controllers": _BUILT_IN_CONTROLLERS,
    "orders": _BUILT_IN_ORDERS,
}

_PARTS = {
    "schedulers": ("Params", "plan"),
    "routers": ("Params", "choose"),
    "controllers": ("Params", "act"),
    "orders": ("key", "victim_key", "oracle", "dynamic"),
}
"""What a policy of each kind must have."""

_PARAMS: dict[str, type[PolicyParams]] = {"schedulers": SchedulerParams, "routers": PolicyParams, "controllers": PolicyParams}
"""What its parameters derive from."""


@lru_cache(maxsize=len(_BUILT_IN))
def _points(kind: str) -> dict[str, Plugin]:
    group = f"simserve.{kind}"
    return plugins.found(group) | plugins.own(group, _BUILT_IN[kind])


@lru_cache(maxsize=256)
def _load(kind: str, name: str) -> Any:
    points = _points(kind)
    if name not in points:
        raise ConfigError(f"unknown {KINDS[f'simserve.{kind}']} '{clipped(name)}'{nearest(name, points)}")
    where = f"{points[name].words} cannot be loaded from {points[name].point.value}"
    found = points[name].load()
    missing = [part for part in _PARTS[kind] if not hasattr(found, part)]
    if missing or isinstance(found, ModuleType) != (kind == "orders"):
        what = "a module" if kind == "orders" else "a class"
        raise ConfigError(f"{where}: it must be {what} with {', '.join(_PARTS[kind])} (simserve/contracts/policies.py)")
    if kind != "orders":
        _check_class(found, where, _PARAMS[kind])
    return found


def _check_class(found: Any, where: str, base: type[PolicyParams]) -> None:
    """A policy class takes its parameters, which derive from `base`, and nothing else."""
    if not (isinstance(found.Params, type) and issubclass(found.Params, base)):
        raise ConfigError(f"{where}: its Params must be a subclass of {base.__name__} (simserve/contracts/policies.py)")
    try:
        signature(found).bind(object())
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: it must be made by {clipped(found.__name__)}(params) (simserve/contracts/policies.py)") from None


def third_party() -> list[tuple[str, str, str]]:
    """Policies that are not built in: the module each is in, its name there, and its own in words ("scheduling policy 'mine'")."""
    return [
        (plugin.point.module, plugin.point.attr, plugin.words)
        for kind, built_in in _BUILT_IN.items()
        for name, plugin in _points(kind).items()
        if name not in built_in
    ]


def package(kind: str, name: str) -> str:
    """The package that a policy comes from, with its version; "" of a built-in one. `kind`: schedulers, routers, controllers or orders."""
    return _points(kind)[name].package


def scheduler_names() -> list[str]:
    """Names that `scheduler_class` knows."""
    return sorted(_points("schedulers"))


def scheduler_class(name: str) -> Any:
    """The policy class of that name (see simserve/contracts/policies.py). ConfigError with the nearest right name if there is none."""
    return _load("schedulers", name)


def router_names() -> list[str]:
    """Names that `router_class` knows."""
    return sorted(_points("routers"))


def router_class(name: str) -> Any:
    """The router class of that name. ConfigError with the nearest right name if there is none."""
    return _load("routers", name)


def controller_names() -> list[str]:
    """Names that `controller_class` knows."""
    return sorted(_points("controllers"))


def controller_class(name: str) -> Any:
    """The controller class of that name. ConfigError with the nearest right name if there is none."""
    return _load("controllers", name)


def order_names() -> list[str]:
    """Names that `order` knows."""
    return sorted(_points("orders"))


def order(name: str) -> ModuleType:
    """The queue discipline of that name: a module with `key` (None = first come, first served), `victim_key`, `oracle` and
    `dynamic` (the key changes with what the prefix cache holds)."""
    found: ModuleType = _load("orders", name)
    return found
