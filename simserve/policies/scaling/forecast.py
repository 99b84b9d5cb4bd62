"""Scaling ahead of the load: the arrival rate is forecast for the time when an instance started now would serve."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from pydantic import Field

from simserve.bounds import LEAST_INTERVAL_S, MOST_S
from simserve.contracts import ClusterControl, Request
from simserve.policies.scaling.pool import Pool, PoolParams, Reason
from simserve.policies.scaling.replicas import Stabilisation


class Forecast:
    """As many instances as carry the forecast rate at `utilisation` of what one takes.

    The forecast is Holt's linear exponential smoothing (level and trend; Hyndman and Athanasopoulos, Forecasting: Principles and Practice,
    3rd edition, section 8.2) of arrivals a second in each interval; with `season_s` the highest rate seen one season before the time that
    is looked ahead to counts too.
    """

    class Params(PoolParams):
        requests_per_s: float = Field(gt=0, description="Requests a second that one instance serves within its SLO (`simserve capacity`).")
        utilisation: float = Field(0.8, gt=0, le=1, description="Fraction of it that an instance is to carry.")
        interval_s: float = Field(15.0, ge=LEAST_INTERVAL_S, le=MOST_S, description="Seconds between two checks.")
        horizon_s: float = Field(60.0, ge=0, le=MOST_S, description="Seconds it looks ahead: at least the time to boot.")
        level: float = Field(0.5, gt=0, le=1, description="Smoothing of the level: 1 follows the last interval alone.")
        trend: float = Field(0.1, ge=0, le=1, description="Smoothing of the trend.")
        season_s: float | None = Field(
            None, gt=0, le=MOST_S, description="Period after which the load comes again, such as 86400. Default: none."
        )
        scale_down_stabilisation_s: float = Field(
            300.0, ge=0, le=MOST_S, description="It scales down to the most that it asked for in these seconds."
        )

    idle = True
    hears_ends = True

    def __init__(self, params: Params) -> None:
        self.params = params
        self._stabilisation = Stabilisation(0.0, params.scale_down_stabilisation_s)
        self._ended = self._arrived = 0
        self._last_s = 0.0
        self._level: float | None = None
        self._trend = 0.0
        self._rates: deque[tuple[float, float]] = deque()

    @property
    def interval_s(self) -> float:
        return self.params.interval_s

    def ended(self, requests: Sequence[Request], instance: int, now: float) -> None:
        self._ended += len(requests)

    def act(self, cluster: ClusterControl) -> None:
        now, params, pool = cluster.now, self.params, Pool(cluster, self.params)
        self._smooth(now, self._arrivals(cluster))
        ahead, of_one = self._ahead(now), params.requests_per_s * params.utilisation
        wanted = math.ceil(ahead / of_one - 1e-9)
        bounded = max(params.min_instances, min(wanted, pool.most))
        pool.bring_to(self._stabilisation.stabilised(now, pool.count, bounded), Reason("forecast_per_s", ahead, of_one))

    def _arrivals(self, cluster: ClusterControl) -> int:
        """Requests that have come since the last check: those that have ended or are there, less those that had come before."""
        there = cluster.held
        for number in range(len(cluster.states)):
            load = cluster.load(number)
            there += load.running + load.waiting
        arrived = max(self._arrived, self._ended + there)
        self._arrived, new = arrived, arrived - self._arrived
        return new

    def _smooth(self, now: float, arrivals: int) -> None:
        span_s = now - self._last_s
        self._last_s = now
        if span_s <= 0:
            return
        rate, before = arrivals / span_s, self._level
        if before is None:
            self._level = rate
        else:
            gone = span_s / self.params.interval_s
            self._level = self.params.level * rate + (1.0 - self.params.level) * (before + self._trend * gone)
            self._trend = self.params.trend * (self._level - before) / gone + (1.0 - self.params.trend) * self._trend
        if self.params.season_s is not None:
            self._rates.append((now, rate))
            while self._rates and self._rates[0][0] < now - self.params.season_s - self.params.interval_s:
                self._rates.popleft()

    def _ahead(self, now: float) -> float:
        """Requests a second at the horizon."""
        params = self.params
        ahead = max(0.0, (self._level or 0.0) + self._trend * params.horizon_s / params.interval_s)
        if params.season_s is None:
            return ahead
        until_s = now + params.horizon_s - params.season_s
        return max([ahead, *(rate for at_s, rate in self._rates if until_s - params.horizon_s <= at_s <= until_s + params.interval_s)])
