"""Llumnix's auto-scaling: instances start when the average freeness is low and stop when it is high (arXiv 2406.03243, section 4.4.4)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field, ValidationInfo, field_validator

from simserve.bounds import LEAST_INTERVAL_S, MOST_INSTANCES, MOST_S
from simserve.policies.contract import PolicyParams
from simserve.policies.freeness import freeness

if TYPE_CHECKING:
    from simserve.engine.control import ClusterControl


class LlumnixScaling:
    """Starts or stops one instance per check, by the average freeness.

    A stopping instance takes no new requests; a migration policy empties it, else they run out.
    """

    class Params(PolicyParams):
        interval_s: float = Field(10.0, ge=LEAST_INTERVAL_S, le=MOST_S, description="Seconds between two checks.")
        scale_up: float = Field(10.0, description="Average freeness below which an instance starts.")
        scale_down: float = Field(60.0, description="Average freeness above which an instance stops.")
        min_instances: int = Field(1, ge=0, le=MOST_INSTANCES, description="Instances that always serve.")
        most: float = Field(100.0, gt=0, description="Freeness of one instance counts up to this: an idle one must not hide a full one.")

        @field_validator("scale_down")
        @classmethod
        def _apart(cls, value: float, info: ValidationInfo) -> float:
            up = info.data.get("scale_up")
            if up is not None and value < up:  # in between, instances would start and stop for ever
                raise ValueError(f"found {value:g}, expected at least scale_up, which is {up:g}")
            return value

    idle = True
    one_pool = True

    def __init__(self, params: Params) -> None:
        self.params = params

    @property
    def interval_s(self) -> float:
        return self.params.interval_s

    def act(self, cluster: ClusterControl) -> None:
        lives = cluster.lives
        up = [number for number, life in enumerate(lives) if life == "up"]
        booting = [number for number, life in enumerate(lives) if life == "booting"]
        spare = [number for number, life in enumerate(lives) if life == "draining"] + [n for n, life in enumerate(lives) if life == "off"]
        loads = [min(freeness(cluster.load(number)), self.params.most) for number in up] + [self.params.most] * len(booting)
        average = sum(loads) / len(loads) if loads else (-math.inf if cluster.held else math.inf)
        if average < self.params.scale_up and spare:
            cluster.start(spare[0])
        elif average > self.params.scale_down and not booting and len(up) > self.params.min_instances:
            # The emptiest stops soonest; of equals the last started.
            cluster.drain(min(up, key=lambda number: (cluster.load(number).running + cluster.load(number).waiting, -number)))
