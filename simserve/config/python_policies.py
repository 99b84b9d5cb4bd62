"""Policy objects given from Python: `simserve.run("quickstart", scheduler=Mine())`. Checked, copied for each instance, named in results.

An experiment names its policies; an object has no name that a file could hold. So the resolved experiment says `python:module:Class` with
the object's parameters, loading it is refused with a sentence that says why, and giving the object again runs it again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from simserve.config.python_names import Arguments, name_of
from simserve.contracts import PolicyParams, Router, Scheduler, SchedulerParams, capable
from simserve.errors import ConfigError

if TYPE_CHECKING:
    from simserve.config.experiment import Experiment
    from simserve.engine.spec import ClusterSpec


@dataclass(frozen=True, slots=True)
class PythonPolicies:
    """The objects, checked. `schedulers` by number of the instance group."""

    schedulers: Mapping[int, Scheduler] = field(default_factory=dict)
    router: Router | None = None
    decode_router: Router | None = None

    def routed(self, cluster: ClusterSpec) -> ClusterSpec:
        """The cluster with copies of the routers."""
        router, decode_router = copy.deepcopy((self.router, self.decode_router))
        return replace(cluster, router=router or cluster.router, decode_router=decode_router or cluster.decode_router)

    def told(self, resolved: dict[str, Any]) -> dict[str, Any]:
        """The resolved experiment, naming the objects instead of the policies that they replace."""
        cluster = resolved["cluster"]
        for index, scheduler in self.schedulers.items():
            cluster["instances"][index]["scheduler"] = {"policy": name_of(scheduler), **scheduler.params.model_dump(mode="json")}
        if self.router is not None:
            rest = {key: cluster["router"][key] for key in ("decode_policy", "refresh_s")}
            cluster["router"] = {"policy": name_of(self.router), **self.router.params.model_dump(mode="json"), **rest}
        if self.decode_router is not None:
            cluster["router"]["decode_policy"] = name_of(self.decode_router)
        return resolved


NONE = PythonPolicies()


def checked(experiment: Experiment, given: Arguments) -> PythonPolicies:
    """The objects that an experiment's groups and routers get. Raises ConfigError: what an object lacks, a group that does not exist..."""
    schedulers = {index: _scheduler(experiment, index, one) for index, one in _by_group(experiment, given.scheduler).items()}
    router, decode_router = (_router(experiment, getattr(given, name), name) for name in ("router", "decode_router"))
    return PythonPolicies(schedulers, router, decode_router)


def _by_group(experiment: Experiment, given: Any) -> dict[int, Any]:
    groups = experiment.groups
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return dict.fromkeys(range(len(groups)), given)
    found: dict[int, Any] = {}
    for key, one in given.items():
        fitting = [index for index, group in enumerate(groups) if key == group.role or (key == index and not isinstance(key, bool))]
        if not fitting:
            roles = ", ".join(sorted({group.role for group in groups}))
            raise ConfigError(f"scheduler={{{key!r}: ...}}: the experiment has instance groups 0 to {len(groups) - 1} (roles: {roles})")
        found.update({index: one for index in fitting if isinstance(key, int) or index not in given})
    return found


def _scheduler(experiment: Experiment, index: int, given: Any) -> Scheduler:
    scheduler: Scheduler = _object(given, "scheduler", "plan", SchedulerParams)
    pp = experiment.groups[index].parallel.pp
    if pp > 1 and capable(scheduler, "single_stage"):
        raise ConfigError(f"scheduler={type(scheduler).__name__}: it works on one pipeline stage only; instance group {index} has pp {pp}")
    return scheduler


def _router(experiment: Experiment, given: Any, argument: str) -> Router | None:
    if given is None:
        return None
    router: Router = _object(given, argument, "choose", PolicyParams)
    if capable(router, "crosses_roles") and {group.role for group in experiment.groups} == {"mixed"}:
        text = "it works on a prefill and a decode pool; no instance has one of these roles"
        raise ConfigError(f"{argument}={type(router).__name__}: {text}")
    return router


def _object(given: Any, argument: str, method: str, params: type[PolicyParams]) -> Any:
    """The object itself, or one of a class with its parameters' defaults."""
    base = "Scheduler" if argument == "scheduler" else "Router"
    a_class = isinstance(given, type)
    own, has = (given, getattr(given, "Params", None)) if a_class else (type(given), getattr(given, "params", None))
    missing = [] if callable(getattr(given, method, None)) else [f"a method {method}"]
    if not (isinstance(has, type) and issubclass(has, params) if a_class else isinstance(has, params)):
        missing.append(f"{'Params' if a_class else 'params'} of simserve.contracts.{params.__name__}")
    if missing:
        text = f"{argument}={own.__name__}: it lacks {' and '.join(missing)}; derive its class from simserve.contracts.{base}"
        raise ConfigError(text)
    if not a_class:
        return given
    try:
        return own(own.Params())
    except (TypeError, ValueError) as problem:
        text = f"{argument}={own.__name__}: cannot be made with its default parameters, so give an object of it: {problem}"
        raise ConfigError(text) from problem
