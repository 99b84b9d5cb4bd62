"""Placements: how many prefill and decode instances, each over how many devices (DistServe, arXiv 2401.09670, section 4).

A placement is one unit that is replicated to serve more; twice the instances of a smaller placement is that one replicated, and left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError, ModelError
from simserve.model import ModelArchitecture
from simserve.model.layout import check
from simserve.model.parallel import Parallel

Affinity = Literal["high", "low"]
Kind = Literal["disaggregated", "mixed"]
KINDS: tuple[Kind, ...] = ("disaggregated", "mixed")


@dataclass(frozen=True, slots=True)
class Pool:
    """`count` equal instances of a role, each tp x pp x dp devices."""

    role: str
    count: int
    tp: int
    pp: int
    dp: int = 1
    ep: int = 1

    @property
    def devices(self) -> int:
        """Devices of all instances."""
        return self.count * self.tp * self.pp * self.dp

    def __str__(self) -> str:
        more = (("pp", self.pp), ("dp", self.dp), ("ep", self.ep))
        parts = [f"tp{self.tp}", *(f"{name}{ranks}" for name, ranks in more if ranks > 1)]
        return f"{f'{self.count} x ' if self.count > 1 else ''}{' '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Placement:
    """One pool of mixed instances, or a prefill and a decode pool."""

    pools: tuple[Pool, ...]

    @property
    def devices(self) -> int:
        """Devices in all."""
        return sum(pool.devices for pool in self.pools)

    @property
    def kind(self) -> Kind:
        """Whether prefill and decode are apart."""
        return "mixed" if len(self.pools) == 1 else "disaggregated"

    def __str__(self) -> str:
        return " + ".join(f"{pool.role} {pool}" for pool in self.pools)

    def groups(self, experiment: Experiment) -> list[dict[str, Any]]:
        """`cluster.instances` of the experiment placed so. Everything else of a pool is as the experiment's group of that role says, or
        its first group where there is none."""
        written = experiment.document.data.get("cluster") or {}
        items: Sequence[Mapping[str, Any]] = written.get("instances") or [{}]
        by_role = {str(item.get("role", "mixed")): item for item in reversed(items)}
        groups = []
        for pool in self.pools:
            pattern = by_role.get(pool.role, items[0])
            apart = {name: ranks for name, ranks in (("dp", pool.dp), ("ep", pool.ep)) if ranks > 1}
            parallel = {**dict(pattern.get("parallel") or {}), "tp": pool.tp, "pp": pool.pp, **apart}
            groups.append({**pattern, "role": pool.role, "count": pool.count, "parallel": parallel})
        return groups


def placements(model: ModelArchitecture, devices: int, node_devices: int, affinity: Affinity, kinds: Sequence[Kind]) -> list[Placement]:
    """All placements on at most `devices` devices, nodes having `node_devices` each. Tensor parallelism stays inside a node.

    affinity  "high": the network between nodes is as good as any, and instances stand anywhere. "low": KV must not leave a node, so the
              stages of prefill and decode instances that hold the same layers share one
    Raises ConfigError when there is none.
    """
    if devices < 1 or node_devices < 1:
        raise ConfigError(f"a placement needs devices: found {devices} devices, {node_devices} in a node")
    found = [p for kind in kinds for p in _of_kind(kind, list(layouts(model, devices, node_devices)), devices, node_devices, affinity)]
    if not found:
        raise ConfigError(f"no placement of {' or '.join(kinds)} instances of {model.name} on {devices} devices, {node_devices} in a node")
    return found


def _of_kind(kind: Kind, layouts: list[tuple[int, int]], devices: int, node_devices: int, affinity: Affinity) -> Iterator[Placement]:
    if kind == "mixed":
        yield from (Placement((Pool("mixed", 1, tp, pp),)) for tp, pp in layouts)
        return
    for one, other in product(layouts, layouts):
        for prefills in range(1, devices + 1):
            for decodes in range(1, devices + 1):
                placement = Placement((Pool("prefill", prefills, *one), Pool("decode", decodes, *other)))
                if placement.devices > devices:
                    break
                if math.gcd(prefills, decodes) == 1 and (affinity == "high" or _kv_stays_in_nodes(placement, devices, node_devices)):
                    yield placement


def layouts(model: ModelArchitecture, devices: int, node_devices: int) -> Iterator[tuple[int, int]]:
    """(tp, pp) of one instance: tp that the model can be split by, equal pipeline stages."""
    for tp in range(1, min(devices, node_devices) + 1):
        try:
            check(model, Parallel(tp=tp))
        except ModelError:
            continue
        yield from ((tp, pp) for pp in range(1, devices // tp + 1) if model.num_layers % pp == 0)


def _kv_stays_in_nodes(placement: Placement, devices: int, node_devices: int) -> bool:
    """Whether the pipelines can be cut in segments, one a node, each with the stages of both pools for the same layers."""
    shared = math.gcd(*(pool.pp for pool in placement.pools))
    nodes = -(-devices // node_devices)
    cuts = (cut for cut in range(1, nodes + 1) if shared % cut == 0)
    return any(placement.devices // cut <= node_devices for cut in cuts)
