"""The placements that a search tries: the plans of `study.plan.space` that are no smaller one replicated, within nodes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from simserve.config.plan_section import BudgetSection, PlanSection, Role
from simserve.errors import ConfigError
from simserve.model import ModelArchitecture
from simserve.study.placement.placement import Affinity, Kind, Placement
from simserve.study.plan.space import Space, shapes

_ROLES: dict[Kind, Role] = {"mixed": "colocated", "disaggregated": "disaggregated"}
"""What plans call the kinds."""


def placements(model: ModelArchitecture, devices: int, node_devices: int, affinity: Affinity, kinds: Sequence[Kind]) -> list[Placement]:
    """All placements on at most `devices` devices, nodes having `node_devices` each. Tensor parallelism stays inside a node.

    affinity  "high": the network between nodes is as good as any, and instances stand anywhere. "low": KV must not leave a node, so the
              stages of prefill and decode instances that hold the same layers share one
    Raises ConfigError when there is none.
    """
    if devices < 1 or node_devices < 1:
        raise ConfigError(f"a placement needs devices: found {devices} devices, {node_devices} in a node")
    found = [p for kind in kinds for p in _of_kind(kind, model, devices, node_devices, affinity)]
    if not found:
        raise ConfigError(f"no placement of {' or '.join(kinds)} instances of {model.name} on {devices} devices, {node_devices} in a node")
    return found


def _of_kind(kind: Kind, model: ModelArchitecture, devices: int, node_devices: int, affinity: Affinity) -> Iterator[Placement]:
    section = PlanSection(
        budget=BudgetSection(devices=devices), node_devices=node_devices,
        roles=(_ROLES[kind],), instances=(1,) if kind == "mixed" else None,
        tp=tuple(range(1, min(devices, node_devices) + 1)), pp=tuple(n for n in range(1, devices + 1) if model.num_layers % n == 0),
    )  # fmt: skip
    space = Space(section, (("", None),), tuple(shapes(section, model, devices)), ())
    for family in space.families():
        for counts in space.counts(family):
            if math.gcd(*counts) > 1:
                continue
            placement = family.plan(counts).placement
            if affinity == "high" or _kv_stays_in_nodes(placement, devices, node_devices):
                yield placement


def _kv_stays_in_nodes(placement: Placement, devices: int, node_devices: int) -> bool:
    """Whether the pipelines can be cut in segments, one a node, each with the stages of both pools for the same layers."""
    shared = math.gcd(*(pool.pp for pool in placement.pools))
    nodes = -(-devices // node_devices)
    cuts = (cut for cut in range(1, nodes + 1) if shared % cut == 0)
    return any(placement.devices // cut <= node_devices for cut in cuts)
