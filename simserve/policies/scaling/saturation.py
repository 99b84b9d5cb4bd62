"""Scaling by spare capacity, as llm-d's workload variant autoscaler does with its saturation analyser (percentage-based, its recommended
thresholds): an instance is saturated by its KV cache or by its queue; what the others have to spare decides."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from simserve.bounds import LEAST_INTERVAL_S, MOST_S
from simserve.contracts import ClusterControl, Request
from simserve.policies.scaling.exported import Exported, Sample
from simserve.policies.scaling.pool import BOUNDS, Pool, PoolParams, Reason


class Saturation:
    """One instance more when the mean spare KV cache or queue of the unsaturated ones is below a trigger and none boots; one less when
    those that stay could take the load and keep that much to spare."""

    class Params(PoolParams):
        kv_threshold: float = Field(0.8, gt=0, le=1, description="Fraction of the KV cache in use at which an instance is saturated.")
        queue_threshold: float = Field(5.0, gt=0, description="Waiting requests at which an instance is saturated.")
        kv_spare: float = Field(0.1, ge=0, le=1, description="Mean distance to `kv_threshold` below which an instance starts.")
        queue_spare: float = Field(3.0, ge=0, description="Mean distance to `queue_threshold` below which an instance starts.")
        interval_s: float = Field(15.0, ge=LEAST_INTERVAL_S, le=MOST_S, description="Seconds between two looks at the instances.")
        decide_s: float = Field(60.0, gt=0, le=MOST_S, description="Seconds between two decisions, on the worst since the last.")
        metric_lag_s: float = Field(15.0, ge=0, le=MOST_S, description="Age of what it knows. Rounded up to whole looks.")

    idle = True
    hears_ends = True

    def __init__(self, params: Params) -> None:
        self.params = params
        self._exported = Exported(params.decide_s, params.metric_lag_s)
        self._decided_s = 0.0

    @property
    def interval_s(self) -> float:
        return self.params.interval_s

    def ended(self, requests: Sequence[Request], instance: int, now: float) -> None:
        self._exported.ended(requests)

    def act(self, cluster: ClusterControl) -> None:
        params, now, pool = self.params, cluster.now, Pool(cluster, self.params)
        self._exported.look(cluster, pool)
        if 0 < pool.count < params.min_instances:
            pool.bring_to(params.min_instances, BOUNDS)
        if now - self._decided_s < params.decide_s - 1e-9:
            return
        samples = self._exported.since(self._decided_s - params.metric_lag_s, now)
        self._decided_s = now
        if not samples or not pool.ready or pool.booting:  # what boots may be enough
            return
        wanted = pool.count
        if pool.count < pool.most and self._short(samples):
            wanted += 1
        elif pool.count > params.min_instances and self._safe(samples):
            wanted -= 1
        pool.bring_to(wanted, self._tightest(samples))

    def _short(self, samples: Sequence[Sample]) -> bool:
        """Whether the spare capacity has fallen below a trigger in any sample; with every instance saturated none is to spare."""
        return any(spare is None or self._below(*spare) for spare in map(self._spare, samples))

    def _tightest(self, samples: Sequence[Sample]) -> Reason:
        """The spare capacity that comes nearest to its trigger, of all samples; 0 where every instance was saturated."""
        params, spare = self.params, [self._spare(sample) or (0.0, 0.0) for sample in samples]
        kv, queue = min(kv for kv, _ in spare), min(queue for _, queue in spare)
        if kv - params.kv_spare <= (queue - params.queue_spare) / params.queue_threshold:
            return Reason("kv_spare", kv, params.kv_spare)
        return Reason("queue_spare", queue, params.queue_spare)

    def _safe(self, samples: Sequence[Sample]) -> bool:
        """Whether all samples leave enough to spare with the load on one instance less."""
        return all(len(sample.each) > 1 and (spare := self._spare(sample, 1)) is not None and not self._below(*spare) for sample in samples)

    def _below(self, kv_spare: float, queue_spare: float) -> bool:
        return kv_spare < self.params.kv_spare or queue_spare < self.params.queue_spare

    def _spare(self, sample: Sample, fewer: int = 0) -> tuple[float, float] | None:
        """Mean spare KV fraction and queue of the unsaturated instances, with their load on `fewer` of them; None without any."""
        params = self.params
        free = [(usage, queue) for usage, queue in sample.each if usage < params.kv_threshold and queue < params.queue_threshold]
        left = len(free) - fewer
        if left < 1:
            return None
        usage, queue = sum(usage for usage, _ in free) / left, sum(queue for _, queue in free) / left
        return params.kv_threshold - usage, params.queue_threshold - queue
