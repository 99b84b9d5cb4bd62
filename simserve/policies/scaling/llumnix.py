"""Llumnix's auto-scaling: instances start when the average freeness is low and stop when it is high (arXiv 2406.03243, section 4.4.4)."""

from __future__ import annotations

import math

from pydantic import Field, ValidationInfo, field_validator

from simserve.bounds import LEAST_INTERVAL_S, MOST_INSTANCES, MOST_S
from simserve.contracts import ClusterControl, PolicyParams
from simserve.policies.freeness import freeness


class LlumnixScaling:
    """Starts or stops one instance per check, by the average freeness.

    A stopping instance takes no new requests; a migration policy empties it, else they run out. Where there are roles, what is
    begun can be finished: the last decode instance goes on while a prefill instance works, and starts with one; and the last instance that
    takes arrivals goes on unless `min_instances` is 0.
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
        states, roles = cluster.states, cluster.roles
        up = [number for number, state in enumerate(states) if state == "up"]
        booting = [number for number, state in enumerate(states) if state == "booting"]
        spare = [number for number, state in enumerate(states) if state == "draining"] + [
            n for n, state in enumerate(states) if state == "off"
        ]
        loads = [min(freeness(cluster.load(number)), self.params.most) for number in up] + [self.params.most] * len(booting)
        average = sum(loads) / len(loads) if loads else (-math.inf if cluster.held else math.inf)
        serving = {role for role, state in zip(roles, states, strict=True) if state in ("up", "booting")}
        if cluster.held and not serving - {"decode"}:  # no instance takes arrivals, however free the others are
            spare, average = [number for number in spare if roles[number] != "decode"], -math.inf
        there, known = len(up) + len(booting), average if math.isfinite(average) else None
        if average < self.params.scale_up and spare:
            cluster.decided(there, there + 1, "freeness", known, self.params.scale_up)
            cluster.start(spare[0])
        elif average > self.params.scale_down and not booting and len(up) > self.params.min_instances:
            # The emptiest stops soonest; of equals the last started.
            stoppable = self._stoppable(up, states, roles)
            if stoppable:
                cluster.decided(there, there - 1, "freeness", known, self.params.scale_down)
                cluster.drain(min(stoppable, key=lambda number: (cluster.load(number).running + cluster.load(number).waiting, -number)))
        if "prefill" in roles:
            self._complete(cluster)

    def _stoppable(self, up: list[int], states: list[str], roles: list[str]) -> list[int]:
        """Instances that may stop: not the last that decodes while one prefills, nor the last that takes arrivals if any must serve."""
        entries = [number for number in up if roles[number] != "decode"]
        decoders = [number for number in up if roles[number] == "decode"]
        kept = set(entries) if len(entries) == 1 and self.params.min_instances else set()
        if len(decoders) == 1 and any(role == "prefill" and state != "off" for role, state in zip(roles, states, strict=True)):
            kept |= set(decoders)
        return [number for number in up if number not in kept]

    def _complete(self, cluster: ClusterControl) -> None:
        """What is prefilled must be decoded: a decode instance starts where a prefill instance works and none decodes."""
        states, roles = cluster.states, cluster.roles
        working = [role for role, state in zip(roles, states, strict=True) if state in ("up", "booting")]
        draining = any(role == "prefill" and state == "draining" for role, state in zip(roles, states, strict=True))
        if ("prefill" in working or draining) and "decode" not in working:
            for wanted in ("draining", "off"):
                for number, state in enumerate(states):
                    if state == wanted and roles[number] == "decode":
                        return cluster.start(number)
        return None
