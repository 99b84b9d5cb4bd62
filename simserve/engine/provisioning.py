"""What an instance needs before it serves: the stages of its start, and the nodes that it stands on, as an experiment states them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from simserve.errors import ConfigError


class Stage(NamedTuple):
    """A part of an instance's start, on the devices that it has got: its name, seconds."""

    name: str
    seconds: float


BOOT = "boot"
"""The name of a start that is not divided into stages."""

IMAGE = "image"
"""The stage in which a node pulls the container image."""

RESTART = "restart"
"""The start after a failure."""


@dataclass(frozen=True, slots=True)
class NodePoolSpec:
    """Nodes of equal devices that come when instances find no room, and go when nothing stands on them.

    The rules and the defaults are those of Kubernetes' cluster autoscaler (kubernetes/autoscaler, cluster-autoscaler/FAQ.md: scan-interval
    10 s, scale-down-unneeded-time 10 min, scale-down-delay-after-add 10 min).

    name          in tables and messages
    node_devices  devices of a node
    min_nodes, max_nodes   that there are at any time, those on order included
    warm_nodes    empty nodes that are kept beyond what is needed, as long as max_nodes allows
    provision_s   from the order of a node until instances can be placed on it
    provision_cv  coefficient of variation of that time over the nodes (lognormal, of `seed`); 0 = always the same
    image_pull_s  seconds in which a node gets the container image, before the first instance on it starts
    prepull       nodes pull it as soon as they are there, not with their first instance
    scan_s        nodes are ordered and removed at whole multiples of this
    unneeded_s    a node goes when it has been seen empty for so long ...
    after_add_s   ... and so long after the last order of a node of this pool
    """

    name: str
    node_devices: int
    min_nodes: int
    max_nodes: int
    provision_s: float
    warm_nodes: int = 0
    provision_cv: float = 0.0
    image_pull_s: float = 0.0
    prepull: bool = False
    scan_s: float = 10.0
    unneeded_s: float = 600.0
    after_add_s: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.node_devices < 1 or not 0 <= self.min_nodes <= self.max_nodes or self.max_nodes < 1:
            raise ConfigError(
                f"node pool '{self.name}': expected node_devices >= 1 and 0 <= min_nodes <= max_nodes, max_nodes >= 1; found "
                f"{self.node_devices}, {self.min_nodes} and {self.max_nodes}"
            )
        if not 0 <= self.warm_nodes <= self.max_nodes:
            raise ConfigError(f"node pool '{self.name}': warm_nodes must be in [0, max_nodes], found {self.warm_nodes}")
        for name in ("provision_s", "provision_cv", "image_pull_s", "unneeded_s", "after_add_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"node pool '{self.name}': {name} must be at least 0, found {getattr(self, name)}")
        if not 0 < self.scan_s < math.inf:
            raise ConfigError(f"node pool '{self.name}': scan_s must be above 0, found {self.scan_s}")

    def nodes_of(self, devices: int) -> int:
        """Nodes that an instance of so many devices takes: a part of one, or whole ones. Raises ConfigError where neither is possible."""
        if devices > self.node_devices and devices % self.node_devices:
            raise ConfigError(
                f"node pool '{self.name}': an instance of {devices} devices takes a part of a node of {self.node_devices} devices or whole "
                f"nodes: expected at most {self.node_devices} devices, or a multiple of that"
            )
        nodes = -(-devices // self.node_devices)
        if nodes > self.max_nodes:
            raise ConfigError(
                f"node pool '{self.name}': an instance of {devices} devices takes {nodes} nodes, and max_nodes is {self.max_nodes}"
            )
        return nodes
