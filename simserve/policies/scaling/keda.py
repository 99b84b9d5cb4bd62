"""KEDA's scaled object: Kubernetes' autoscaler between one and many instances, and a trigger between none and one (keda.sh, "Scaling
Deployments": polling interval 30 s, cooldown period 300 s, activation threshold 0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from simserve.bounds import MOST_INSTANCES, MOST_S
from simserve.contracts import ClusterControl, Request
from simserve.policies.scaling.exported import Metric
from simserve.policies.scaling.hpa import Hpa, HpaParams
from simserve.policies.scaling.pool import Pool, Reason


class Keda:
    """Scales to nothing when no request has been there for the cooldown, and from nothing when one comes; in between it is `hpa`."""

    class Params(HpaParams):
        targets: dict[Metric, float] = Field(default={"waiting": 5.0}, min_length=1, description="As of `hpa`.")
        min_instances: int = Field(0, ge=0, le=MOST_INSTANCES, description="Instances that always serve; with 0 it scales to nothing.")
        polling_s: float = Field(
            30.0, gt=0, le=MOST_S, description="Seconds between two looks at whether there is work. Rounded up to whole checks."
        )
        cooldown_s: float = Field(300.0, ge=0, le=MOST_S, description="Seconds without work before the last instance stops.")
        activation: int = Field(0, ge=0, description="Requests in the system above which there is work.")

        @model_validator(mode="after")
        def _startable(self) -> Self:
            if self.role == "decode" and not self.min_instances:
                raise ValueError(
                    "min_instances: found 0 for decode instances, whose requests wait where they were prefilled: give 1 or more"
                )
            return self

    idle = True
    hears_ends = True

    def __init__(self, params: Params) -> None:
        self.params = params
        own = set(params.model_dump()) - set(HpaParams.model_fields)
        stated: dict[str, Any] = params.model_dump(exclude=own) | {"min_instances": max(1, params.min_instances)}
        self._hpa = Hpa(HpaParams(**stated))
        self._polled_s = -float("inf")
        self._active_s = 0.0

    @property
    def interval_s(self) -> float:
        return self.params.interval_s

    def ended(self, requests: Sequence[Request], instance: int, now: float) -> None:
        self._hpa.ended(requests, instance, now)

    def act(self, cluster: ClusterControl) -> None:
        pool, now = Pool(cluster, self.params), cluster.now
        self._hpa.exported.look(cluster, pool)
        if now - self._polled_s >= self.params.polling_s - 1e-9:
            self._polled_s = now
            if self._poll(cluster, pool, now):
                return
        self._hpa.scale(now, pool)

    def _poll(self, cluster: ClusterControl, pool: Pool, now: float) -> bool:
        """Whether the number of instances was decided here: from nothing, or to nothing."""
        loads = [cluster.load(number) for number in pool.ready]
        work = cluster.held + sum(load.running + load.waiting for load in loads)
        if work > self.params.activation:
            self._active_s = now
            if not pool.count:
                pool.bring_to(max(1, self.params.min_instances), Reason("requests", work, self.params.activation))
                return True
        elif pool.count and not self.params.min_instances and now - self._active_s >= self.params.cooldown_s:
            pool.bring_to(0, Reason("idle_s", now - self._active_s, self.params.cooldown_s))
            return True
        return False
