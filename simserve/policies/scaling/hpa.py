"""Kubernetes' horizontal pod autoscaler (autoscaling/v2) on the metrics of a serving engine."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from simserve.bounds import LEAST_INTERVAL_S, MOST_INSTANCES, MOST_S
from simserve.contracts import ClusterControl, Request
from simserve.policies.scaling.exported import Exported, Metric
from simserve.policies.scaling.pool import BOUNDS, Pool, PoolParams, Reason
from simserve.policies.scaling.replicas import RateLimit, Stabilisation, replicas_for_average, replicas_for_value


class HpaParams(PoolParams):
    """What a HorizontalPodAutoscaler states, with the defaults of the Kubernetes controller."""

    targets: dict[Metric, float] = Field(
        min_length=1,
        description="Metrics and what each should be: `waiting`, `running`, `tokens_per_s`, `requests_per_s` of an instance, `kv_usage`"
        " as a fraction, `ttft_s` in seconds. Of several the one that asks for most instances counts.",
    )
    interval_s: float = Field(15.0, ge=LEAST_INTERVAL_S, le=MOST_S, description="Seconds between two checks.")
    tolerance: float = Field(0.1, ge=0, lt=1, description="Nothing changes while a metric is within this fraction of its target.")
    metric_lag_s: float = Field(15.0, ge=0, le=MOST_S, description="Age of what it knows: scraping, adapter. Rounded up to whole checks.")
    window_s: float = Field(60.0, gt=0, le=MOST_S, description="Seconds that rates and `ttft_s` are taken over.")
    scale_down_stabilisation_s: float = Field(
        300.0, ge=0, le=MOST_S, description="It scales down to the most that it asked for in these seconds."
    )
    scale_up_stabilisation_s: float = Field(
        0.0, ge=0, le=MOST_S, description="It scales up to the least that it asked for in these seconds."
    )
    up_percent: float = Field(100.0, ge=0, description="Instances added within `period_s` at most, percent of those there were ...")
    up_instances: int = Field(4, ge=0, le=MOST_INSTANCES, description="... or this number, if it is more.")
    down_percent: float = Field(
        100.0, ge=0, le=100, description="Instances removed within `period_s` at most, percent of those there were ..."
    )
    down_instances: int = Field(0, ge=0, le=MOST_INSTANCES, description="... or this number, if it is more.")
    period_s: float = Field(15.0, gt=0, le=MOST_S, description="Seconds of these limits.")

    @field_validator("targets")
    @classmethod
    def _reachable(cls, targets: dict[str, float]) -> dict[str, float]:
        for metric, target in targets.items():
            if not target > 0:
                raise ValueError(f"{metric}: found {target:g}, expected a target above 0, which a quotient can be taken with")
            if metric == "kv_usage" and target > 1:
                raise ValueError(f"kv_usage: found {target:g}, expected a fraction of the KV cache, at most 1")
        return targets


class Hpa:
    """Asks for ceil(instances x metric / target) instances, with Kubernetes' tolerance, stabilisation and rate limits."""

    Params = HpaParams
    idle = True
    hears_ends = True

    def __init__(self, params: HpaParams) -> None:
        self.params = params
        self.exported = Exported(params.window_s, params.metric_lag_s)
        self._stabilisation = Stabilisation(params.scale_up_stabilisation_s, params.scale_down_stabilisation_s)
        self._up = RateLimit(params.up_percent, params.up_instances, params.period_s)
        self._down = RateLimit(params.down_percent, params.down_instances, params.period_s)

    @property
    def interval_s(self) -> float:
        return self.params.interval_s

    def ended(self, requests: Sequence[Request], instance: int, now: float) -> None:
        self.exported.ended(requests)

    def act(self, cluster: ClusterControl) -> None:
        pool = Pool(cluster, self.params)
        self.exported.look(cluster, pool)
        self.scale(cluster.now, pool)

    def scale(self, now: float, pool: Pool) -> None:
        """Brings the pool to what the metrics that are known by now ask for; outside of its bounds into them, whatever metrics say and
        however fast it may scale. One without any instance is left alone, as Kubernetes leaves a Deployment of none."""
        current, least = pool.count, self.params.min_instances
        if current and not least <= current <= pool.most:
            pool.bring_to(max(least, min(current, pool.most)), BOUNDS)
            return
        wanted, why = self._wanted(now, pool) if current else (None, Reason("none there"))
        if wanted is None:
            pool.bring_to(current, why)
            return
        bounded = max(least, min(wanted, pool.most))
        stable = self._stabilisation.stabilised(now, current, bounded)
        if stable > current:
            stable = min(stable, self._up.most(now, current))
            self._up.note(now, stable - current)
        elif stable < current:
            stable = max(stable, self._down.least(now, current))
            self._down.note(now, current - stable)
        pool.bring_to(stable, why)

    def _wanted(self, now: float, pool: Pool) -> tuple[int | None, Reason]:
        """The most that any metric asks for, and that metric; None where none says anything. With a metric missing, the others cannot ask
        for less."""
        sample, (first, its_target) = self.exported.read(now), next(iter(self.params.targets.items()))
        if sample is None:
            return None, Reason(first, None, its_target)
        asked: list[tuple[int, Reason]] = []
        silent = False
        for metric, target in self.params.targets.items():
            value = sample.values[metric]
            if value is None:
                silent = True
                continue
            if metric == "ttft_s":
                wanted = replicas_for_value(value, target, len(pool.ready), len(pool.booting), self.params.tolerance)
            else:  # those that have become ready since the sample have exported nothing yet
                heard = min(sample.ready, len(pool.ready))
                wanted = replicas_for_average(value, target, heard, pool.count - heard, self.params.tolerance)
            asked.append((wanted, Reason(metric, value, target)))
        if not asked:
            return None, Reason(first, None, its_target)
        most, why = max(asked, key=lambda one: one[0])
        return (max(most, pool.count) if silent else most), why
