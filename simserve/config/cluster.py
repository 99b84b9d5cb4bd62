"""Routers, controllers, network and failures of an experiment, with nothing left open, and what the engine needs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simserve.bounds import MOST_INSTANCES
from simserve.config import provisioning, python_names
from simserve.config.instances import InstanceGroup, Setting, policy_params
from simserve.config.schema import ClusterSection, ControllerSection, RouterSection
from simserve.contracts import PolicyParams, capable
from simserve.errors import nearest
from simserve.files import messages
from simserve.files.messages import Mistake
from simserve.files.words import clipped
from simserve.files.yaml_text import Document, KeyPath, kind_of
from simserve.policies import registry

if TYPE_CHECKING:
    from simserve.engine.spec import ClusterSpec

_ROUTER_KEYS = frozenset(RouterSection.model_fields)
_CONTROLLER_KEYS = frozenset(ControllerSection.model_fields)


@dataclass(frozen=True, slots=True)
class Choice:
    """A policy by name, with its parameters."""

    policy: str
    params: PolicyParams

    def resolved(self) -> dict[str, Any]:
        """As a mapping of an experiment."""
        return {"policy": self.policy, **self.params.model_dump(mode="json")}


@dataclass(frozen=True, slots=True)
class ClusterPolicies:
    """What an experiment says of the cluster as a whole."""

    router: Choice
    decode_router: Choice
    controllers: tuple[Choice, ...]


def complete(document: Document) -> tuple[ClusterPolicies | None, list[Mistake]]:
    """The policies of `cluster`, or the mistakes in what only they can judge."""
    cluster = document.data.get("cluster")
    cluster = cluster if isinstance(cluster, Mapping) else {}
    router = cluster.get("router")
    router = router if isinstance(router, Mapping) else {}
    items = cluster.get("controllers")
    here: KeyPath = ("cluster", "router")
    names, classes = registry.router_names(), registry.router_class
    own, mistakes = _choice(router, "policy", "round-robin", here, document, names, classes, _ROUTER_KEYS, "routing policy")
    decode = {key: value for key, value in router.items() if key == "decode_policy"}
    other, found = _choice(decode, "decode_policy", "least-outstanding", here, document, names, classes, _ROUTER_KEYS, "routing policy")
    mistakes += found
    controllers: list[Choice] = []
    for index, item in enumerate(items if isinstance(items, list) else []):
        if isinstance(item, Mapping) and "policy" in item:
            place: KeyPath = ("cluster", "controllers", index)
            names, classes = registry.controller_names(), registry.controller_class
            choice, found = _choice(item, "policy", "", place, document, names, classes, _CONTROLLER_KEYS, "controller")
            mistakes += found
            controllers += [choice] if choice else []
    if mistakes or own is None or other is None:
        return None, mistakes
    return ClusterPolicies(own, other, tuple(controllers)), []


def _choice(
    section: Mapping[str, Any],
    key: str,
    default: str,
    place: KeyPath,
    document: Document,
    names: list[str],
    class_of: Any,
    own_keys: frozenset[str],
    words: str,
) -> tuple[Choice | None, list[Mistake]]:
    policy = section.get(key, default)
    if policy not in names:
        found = kind_of(policy) if not isinstance(policy, str) else f"'{clipped(policy)}'"
        text = f"unknown {words} {found}{nearest(str(policy), names)}"
        if python_names.is_from_python(policy):
            text = python_names.lost(policy, "router" if key == "policy" else "decode_router")
        return None, [messages.at(document, (*place, key), text)]
    settings = {name: Setting(value, (*place, name)) for name, value in section.items() if name not in own_keys}
    params, mistakes = policy_params(policy, class_of(policy).Params, settings, document, own_keys, place)
    return (None if params is None else Choice(policy, params)), mistakes


def misfits(document: Document, section: ClusterSection, policies: ClusterPolicies, groups: Sequence[InstanceGroup]) -> list[Mistake]:
    """What only all instances together can judge: roles that cannot finish a request, pools that a policy needs or does not know,
    failures of instances that do not exist."""
    mistakes = []
    roles = [group.role for group in groups]
    for role, other in (("prefill", "decode"), ("decode", "prefill")):
        if role in roles and other not in roles:
            place: KeyPath = ("cluster", "instances", roles.index(role), "role")
            mistakes.append(messages.at(document, place, f"{role} instances need {other} instances: requests could not be finished"))
    mistakes += [] if mistakes else [*_pools(document, section, policies, set(roles)), *_autoscalers(document, policies, groups)]
    instances = sum(group.max_count for group in groups)
    if instances > MOST_INSTANCES:
        text = f"{instances:,} instances in all; at most {MOST_INSTANCES:,} are simulated"
        mistakes.append(messages.at(document, ("cluster", "instances"), text))
    for index, one in enumerate(section.failures.times if section.failures is not None else ()):
        if one.instance >= instances:
            text = f"there is no instance {one.instance}; instances are 0 to {instances - 1}"
            mistakes.append(messages.at(document, ("cluster", "failures", "times", index, "instance"), text))
    return mistakes


def _pools(document: Document, section: ClusterSection, policies: ClusterPolicies, roles: set[str]) -> list[Mistake]:
    """What needs a prefill and a decode pool where there are none, or cannot tell them apart where there is nothing else."""
    mistakes, pools = [], roles != {"mixed"}
    names: list[tuple[KeyPath, Choice]] = [(("router", "policy"), policies.router), (("router", "decode_policy"), policies.decode_router)]
    for place, choice in names:
        if not pools and capable(registry.router_class(choice.policy), "crosses_roles"):
            text = f"{choice.policy} works on a prefill and a decode pool; no instance has one of these roles"
            mistakes.append(messages.at(document, ("cluster", *place), text))
    if not pools and section.network.kv_transfer != "pull":
        text = f"found {section.network.kv_transfer}, but no KV is transferred: no instance has the role prefill; leave this key out"
        mistakes.append(messages.at(document, ("cluster", "network", "kv_transfer"), text))
    for index, choice in enumerate(policies.controllers):
        if "mixed" not in roles and capable(registry.controller_class(choice.policy), "one_pool"):
            text = f"{choice.policy} counts all instances as one pool: it would stop the last prefill or decode instance"
            mistakes.append(messages.at(document, ("cluster", "controllers", index, "policy"), text))
    return mistakes


def _autoscalers(document: Document, policies: ClusterPolicies, groups: Sequence[InstanceGroup]) -> list[Mistake]:
    """Controllers that scale the instances of one role where there are none, too few for what they keep, or another one scales them."""
    mistakes: list[Mistake] = []
    counts = {
        role: sum(group.max_count for group in groups if group.role == role) for role in dict.fromkeys(group.role for group in groups)
    }
    changing = any(capable(registry.router_class(choice.policy), "crosses_roles") for choice in (policies.router, policies.decode_router))
    taken: dict[str, int] = {}
    for index, choice in enumerate(policies.controllers):
        role, least = getattr(choice.params, "role", None), getattr(choice.params, "min_instances", None)
        if role is None or least is None:
            continue
        place: KeyPath = ("cluster", "controllers", index)
        if role not in counts and not changing:
            text = f"{choice.policy} scales {role} instances, and the cluster has only {' and '.join(counts)} ones"
            mistakes.append(messages.at(document, (*place, "role"), text))
        elif role in taken:
            text = f"controller {taken[role]} ({policies.controllers[taken[role]].policy}) scales the {role} instances already; state one"
            mistakes.append(messages.at(document, place, text))
        elif least > counts.get(role, least):
            text = f"found {least}, and there are at most {counts[role]} {role} instances (`max_count` of their groups)"
            mistakes.append(messages.at(document, (*place, "min_instances"), text))
        taken.setdefault(role, index)
    return mistakes


def resolved(section: ClusterSection, policies: ClusterPolicies) -> dict[str, Any]:
    """Everything of `cluster` but its instances and nodes, explicit."""
    router = policies.router.resolved() | {"decode_policy": policies.decode_router.policy, "refresh_s": section.router.refresh_s}
    found: dict[str, Any] = {"router": router, "network": section.network.model_dump(exclude_none=True)}
    if policies.controllers:
        found["controllers"] = [choice.resolved() for choice in policies.controllers]
        found["migration"] = section.migration.model_dump()
    if section.failures is not None:
        found["failures"] = section.failures.model_dump(exclude_none=True)
    return found


def cluster_spec(section: ClusterSection, policies: ClusterPolicies, seed: int, hardware: str) -> ClusterSpec:
    """What the engine runs the instances with."""
    from simserve.engine.spec import ClusterSpec, Failures, MigrationSpec

    failures = section.failures
    router = registry.router_class(policies.router.policy)(policies.router.params)
    return ClusterSpec(
        router=router,
        decode_router=registry.router_class(policies.decode_router.policy)(policies.decode_router.params),
        refresh_s=section.router.refresh_s,
        push=section.network.kv_transfer != "pull",
        layerwise=section.network.kv_transfer == "push-layerwise",
        controllers=tuple(registry.controller_class(choice.policy)(choice.params) for choice in policies.controllers),
        migration=MigrationSpec(section.migration.last_stage_blocks, section.migration.max_stages),
        node_pools=provisioning.pool_specs(section.node_pools, hardware, seed),
        failures=None
        if failures is None
        else Failures(
            times=tuple((one.at_s, one.instance) for one in failures.times),
            mtbf_s=failures.mtbf_s,
            restart_s=failures.restart_s,
            rule=failures.rule,
            seed=seed,
        ),
    )
