"""How many replicas Kubernetes' horizontal pod autoscaler asks for: its formula, its stabilisation, its rate limits.

Rules of autoscaling/v2 (kubernetes/pkg/controller/podautoscaler: replica_calculator.go, horizontal.go) and of its documentation, "Algorithm
details" and "Configurable scaling behavior".
"""

from __future__ import annotations

import math
from collections import deque


def replicas_for_average(average: float, target: float, ready: int, booting: int, tolerance: float) -> int:
    """Of a metric that the pods divide: replicas at which the mean of a pod is at its target.

    Pods that export nothing yet count as using nothing when the others ask for more, and as using their target when they ask for less;
    where this turns the decision round, or brings it within the tolerance, nothing changes.
    """
    current = ready + booting
    if not ready:
        return current
    ratio = average / target
    if not booting:
        return current if abs(1.0 - ratio) <= tolerance else _ceil(ratio * ready)
    assumed = 0.0 if ratio > 1.0 else target if ratio < 1.0 else average
    again = (average * ready + assumed * booting) / current / target
    if abs(1.0 - again) <= tolerance or (ratio < 1.0) != (again < 1.0):
        return current
    wanted = _ceil(again * current)
    turned = (wanted < current) != (again < 1.0)
    return current if turned else wanted


def replicas_for_value(value: float, target: float, ready: int, booting: int, tolerance: float) -> int:
    """Of a metric that is one number of the whole service: the ready pods, times how far it is from its target."""
    ratio = value / target
    if abs(1.0 - ratio) <= tolerance or not ready:
        return ready + booting
    return _ceil(ratio * ready)


def _ceil(replicas: float) -> int:
    """Rounded up, but for what rounding of the quotient has added."""
    return math.ceil(replicas - 1e-9)


class Stabilisation:
    """The highest number asked for in the last seconds counts when scaling down, the lowest when scaling up."""

    def __init__(self, up_s: float, down_s: float) -> None:
        self._up_s, self._down_s = up_s, down_s
        self._asked: deque[tuple[float, int]] = deque()

    def stabilised(self, now: float, current: int, wanted: int) -> int:
        """What is left of `wanted`, given what was asked for before."""
        while self._asked and self._asked[0][0] < now - max(self._up_s, self._down_s):
            self._asked.popleft()
        lowest = min([wanted, *(count for at_s, count in self._asked if at_s > now - self._up_s)])
        highest = max([wanted, *(count for at_s, count in self._asked if at_s > now - self._down_s)])
        self._asked.append((now, wanted))
        return min(max(current, lowest), highest)


class RateLimit:
    """Replicas that may be added or removed within a period: a percentage of those at its beginning or a number, the larger."""

    def __init__(self, percent: float, replicas: int, period_s: float) -> None:
        self._percent, self._replicas, self._period_s = percent, replicas, period_s
        self._changes: deque[tuple[float, int]] = deque()

    def most(self, now: float, current: int) -> int:
        """The largest number of replicas that scaling up may reach now."""
        begin = current - self._changed(now)
        return max(current, begin + self._replicas, _ceil(begin * (1.0 + self._percent / 100.0)))

    def least(self, now: float, current: int) -> int:
        """The smallest number of replicas that scaling down may reach now."""
        begin = current + self._changed(now)
        return min(current, begin - self._replicas, math.floor(begin * (1.0 - self._percent / 100.0)))

    def note(self, now: float, replicas: int) -> None:
        """So many were added (or removed, if this limits scaling down)."""
        self._changes.append((now, replicas))

    def _changed(self, now: float) -> int:
        while self._changes and self._changes[0][0] <= now - self._period_s:
            self._changes.popleft()
        return sum(replicas for _, replicas in self._changes)
