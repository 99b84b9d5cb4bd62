"""The keys that say how an instance starts (`cluster.instances.N.start`) and which nodes there are (`cluster.node_pools`)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from simserve.bounds import LEAST_INTERVAL_S, MOST_BYTES_PER_S, MOST_DEVICES, MOST_INSTANCES, MOST_S
from simserve.config.section import Section


class StartSection(Section):
    """The stages of an instance's start, on the devices that it has got. Their sum is its `boot_s`."""

    engine_s: float = Field(
        default=0.0, ge=0, le=MOST_S, description="Seconds until the weights begin to load: processes, imports, communication set up."
    )
    load_s: float | None = Field(default=None, ge=0, le=MOST_S, description="Seconds that the weights take to load ...")
    load_bytes_per_s: float | None = Field(
        default=None,
        ge=1,
        le=MOST_BYTES_PER_S,
        description="... or the bandwidth of storage or network to one instance, bytes/s: the weights are read once, whatever the layout.",
    )
    capture_s: float = Field(default=0.0, ge=0, le=MOST_S, description="Seconds of compiling, graph capture and warm-up.")

    @model_validator(mode="after")
    def _one_load(self) -> Self:
        if self.load_s is not None and self.load_bytes_per_s is not None:
            raise ValueError("load_s and load_bytes_per_s both state how long the weights load; give one of them")
        if self.load_s is None and self.load_bytes_per_s is None:
            raise ValueError("states not how long the weights load: give load_s (seconds) or load_bytes_per_s")
        return self


class NodePoolSection(Section):
    """Nodes that instances stand on: they come when instances find no room, and go when they are empty. A node is paid for from its order
    to its removal."""

    hardware: str | None = Field(
        default=None, description="Hardware profile of its devices: instances on it stand here. Default: the experiment's `hardware`."
    )
    node_devices: int = Field(default=8, ge=1, le=MOST_DEVICES, description="Devices of a node.")
    min_nodes: int = Field(default=0, ge=0, le=MOST_INSTANCES, description="Nodes that are always there.")
    max_nodes: int = Field(le=MOST_INSTANCES, description="Nodes at most, those on order included. What needs more waits.")
    warm_nodes: int = Field(
        default=0, ge=0, le=MOST_INSTANCES, description="Empty nodes kept beyond what is needed, as far as `max_nodes` allows."
    )
    provision_s: float = Field(ge=0, le=MOST_S, description="Seconds from the order of a node until instances can be placed on it.")
    provision_cv: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Coefficient of variation of that time over the nodes (lognormal, of the experiment's seed). 0 = always the same.",
    )
    image_pull_s: float = Field(
        default=0.0, ge=0, le=MOST_S, description="Seconds in which a node gets the container image, before its first instance starts."
    )
    prepull: bool = Field(default=False, description="Nodes pull the image as soon as they are there, not with their first instance.")
    scan_s: float = Field(
        default=10.0, ge=LEAST_INTERVAL_S, le=MOST_S, description="Nodes are ordered and removed at whole multiples of this."
    )
    unneeded_s: float = Field(default=600.0, ge=0, le=MOST_S, description="A node goes when it has been seen empty for so long ...")
    after_add_s: float = Field(default=600.0, ge=0, le=MOST_S, description="... and so long after the pool's last order of a node.")

    @field_validator("max_nodes")
    @classmethod
    def _some(cls, value: int) -> int:
        if value < 1:
            raise ValueError(f"found {value}, expected 1 or more: on a pool without nodes no instance ever starts")
        return value

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_nodes > self.max_nodes:
            raise ValueError(f"min_nodes is {self.min_nodes} and max_nodes {self.max_nodes}: no number of nodes is both")
        if self.warm_nodes > self.max_nodes:
            raise ValueError(
                f"warm_nodes is {self.warm_nodes} and max_nodes {self.max_nodes}: so many can never be empty and there; "
                "raise max_nodes or keep fewer"
            )
        return self
