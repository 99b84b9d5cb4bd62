"""Stages of starts and node pools of an experiment: what groups and pools can only be judged by together, and what the engine needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.config.instances import InstanceGroup
from simserve.config.paths import hardware_reference
from simserve.config.schema import ClusterSection
from simserve.errors import ConfigError
from simserve.files import messages
from simserve.files.messages import Mistake
from simserve.files.yaml_text import Document, KeyPath

if TYPE_CHECKING:
    from simserve.config.provisioning_section import NodePoolSection, StartSection
    from simserve.engine.provisioning import NodePoolSpec, Stage

ENGINE, WEIGHTS, CAPTURE = "engine", "weights", "capture"
"""Names of the stages."""


def stages(section: StartSection, weight_bytes: float) -> tuple[Stage, ...]:
    """The stages of a start, those that take time.

    weight_bytes  of the checkpoint: what storage or network deliver to one instance, once
    """
    from simserve.engine.provisioning import Stage

    load_s = section.load_s if section.load_bytes_per_s is None else weight_bytes / section.load_bytes_per_s
    assert load_s is not None
    found = (Stage(ENGINE, section.engine_s), Stage(WEIGHTS, load_s), Stage(CAPTURE, section.capture_s))
    return tuple(stage for stage in found if stage.seconds)


def pool_number(pools: Sequence[NodePoolSection], hardware: str, default: str) -> int:
    """The pool that instances on this hardware stand on. Raises ValueError where there is none."""
    return [pool.hardware or default for pool in pools].index(hardware)


def pool_specs(pools: Sequence[NodePoolSection], hardware: str, seed: int) -> tuple[NodePoolSpec, ...]:
    """The node pools for the engine; each draws for itself."""
    from simserve.engine.provisioning import NodePoolSpec

    return tuple(
        NodePoolSpec(name=Path(pool.hardware or hardware).stem, seed=seed + number, **pool.model_dump(exclude={"hardware"}))
        for number, pool in enumerate(pools)
    )


def resolved(pools: Sequence[NodePoolSection], hardware: str, folder: Path) -> list[dict[str, Any]]:
    """The pools, explicit; a profile's path starts at `folder`."""
    return [pool.model_dump() | {"hardware": hardware_reference(pool.hardware or hardware, folder)} for pool in pools]


def misfits(document: Document, section: ClusterSection, hardware: str, groups: Sequence[InstanceGroup]) -> list[Mistake]:
    """Pools that no instance stands on, instances without a pool or too wide for its nodes, more instances than fit at the beginning."""
    pools = section.node_pools
    if not pools:
        return []
    place: KeyPath = ("cluster", "node_pools")
    names = [pool.hardware or hardware for pool in pools]
    mistakes: list[Mistake] = []
    for number, name in enumerate(names):
        if name in names[:number]:
            text = f"node pool {names.index(name)} has hardware {name} already; instances on it stand in one pool"
            mistakes.append(messages.at(document, (*place, number), text))
        elif name not in [group.hardware for group in groups]:
            of = ", ".join(dict.fromkeys(group.hardware for group in groups))
            text = f"no instance has hardware {name} and could stand on its nodes; instances have {of}"
            mistakes.append(messages.at(document, (*place, number), text))
    for index, group in enumerate(groups):
        if group.hardware not in names:
            text = f"no node pool has hardware {group.hardware}; pools have {', '.join(names)}, and every instance stands in one"
            mistakes.append(messages.at(document, ("cluster", "instances", index), text))
    between = section.network.between_nodes
    for number, pool in enumerate(pools):
        if between is not None and between.node_devices != pool.node_devices:
            text = f"found {pool.node_devices}, and cluster.network.between_nodes.node_devices is {between.node_devices}: give one size"
            mistakes.append(messages.at(document, (*place, number, "node_devices"), text))
    return mistakes or _widths(document, section, names, hardware, groups)


def _widths(
    document: Document, section: ClusterSection, names: Sequence[str], hardware: str, groups: Sequence[InstanceGroup]
) -> list[Mistake]:
    mistakes = []
    specs = pool_specs(section.node_pools, hardware, 0)
    for index, group in enumerate(groups):
        spec = specs[names.index(group.hardware)]
        layout = group.parallel
        try:
            spec.nodes_of(layout.tp * layout.pp * layout.dp)
        except ConfigError as error:
            mistakes.append(messages.at(document, ("cluster", "instances", index, "parallel"), str(error)))
    return mistakes
