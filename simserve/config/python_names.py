"""How an experiment names policy objects that a run was given from Python, and what becomes of these names when it is read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from simserve.contracts.policies import FROM_PYTHON
from simserve.files.words import clipped


class Arguments(NamedTuple):
    """What `simserve.run` was given: objects or classes; `scheduler` also a mapping from group number or role to one."""

    scheduler: Any = None
    router: Any = None
    decode_router: Any = None

    def placeholders(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Changes to an experiment (dotted path -> value) that take out what an earlier run was given and what is given here again."""
        found: dict[str, Any] = {}
        cluster = data.get("cluster")
        cluster = cluster if isinstance(cluster, Mapping) else {}
        groups = cluster.get("instances")
        for index, group in enumerate(groups if isinstance(groups, list) else ()):
            section = group.get("scheduler") if isinstance(group, Mapping) else None
            if isinstance(section, Mapping) and is_from_python(section.get("policy")) and self._covers(index, group.get("role", "mixed")):
                found[f"cluster.instances.{index}.scheduler"] = {}
        router = cluster.get("router")
        if isinstance(router, Mapping):
            kept = dict(router)
            if self.router is not None and is_from_python(router.get("policy")):
                kept = {key: router[key] for key in ("decode_policy", "refresh_s") if key in router}
            if self.decode_router is not None and is_from_python(router.get("decode_policy")):
                kept.pop("decode_policy", None)
            if kept != router:
                found["cluster.router"] = kept
        return found

    def _covers(self, index: int, role: Any) -> bool:
        if isinstance(self.scheduler, Mapping):
            return index in self.scheduler or role in self.scheduler
        return self.scheduler is not None


WHATEVER = Arguments(True, True, True)
"""For who reads an experiment of an earlier run and does not run its policies: a replay of its steps."""


def name_of(policy: Any) -> str:
    """`python:module:Class`."""
    return f"{FROM_PYTHON}{type(policy).__module__}:{type(policy).__qualname__}"


def is_from_python(policy: Any) -> bool:
    """Whether a name stands for an object that a run was given."""
    return isinstance(policy, str) and policy.startswith(FROM_PYTHON)


def lost(policy: str, argument: str) -> str:
    """Why an experiment that names an object cannot be run as it is."""
    name = clipped(policy.removeprefix(FROM_PYTHON))
    return (
        f"the run was given an object of {name} from Python, which no file holds: give it again, simserve.run(..., {argument}=...),"
        " or name a policy"
    )
