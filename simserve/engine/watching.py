"""Which instances may score below a bound, found without looking closely at all of them.

A score of memory and requests (freeness) only falls during a span of steps, and by the end of the span at the latest it is as low as it
gets. So what an instance would score then is the least it can score until a new plan is made, a request comes, lands or leaves, or memory
is taken for another; only the instances of which one of these is true need a look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simserve.contracts.cluster import Score
from simserve.engine.instance import Instance
from simserve.engine.instance_state import InstanceState
from simserve.engine.lane import Lane


class Watch:
    """The instances of a cluster by the least that each can score."""

    def __init__(self, instances: Sequence[Instance], score: Score) -> None:
        self._instances = instances
        self._score = score
        self._lanes = [_only_lane(instance) for instance in instances]
        self._seen: list[Any] = [None] * len(instances)
        self._least = [0.0] * len(instances)

    def below(self, bound: float) -> list[int]:
        """Numbers of the instances that drain, or are up and may score below `bound`, rising: all that do, and some that do not."""
        found, lanes, seen, least = [], self._lanes, self._seen, self._least
        for number, instance in enumerate(self._instances):
            if instance.state is not InstanceState.UP:
                if instance.state is InstanceState.DRAINING:
                    found.append(number)
                continue
            lane, signals, mark = lanes[number], instance.signals, None
            if lane is not None and not signals.waiting[number] and not instance.loads:
                mark = lane.plan.serial, signals.outstanding[number], lane.kv._free, len(lane.batch.landed)
            if mark is None or mark != seen[number]:
                seen[number] = mark
                least[number] = self._score(instance.least_load())
            if least[number] < bound:
                found.append(number)
        return found


def _only_lane(instance: Instance) -> Lane | None:
    """The lane of an instance whose load changes with few things only: it has no other, and drafts no tokens."""
    lanes = instance.runner.lanes
    return lanes[0] if len(lanes) == 1 and lanes[0].batch.speculating is None else None
