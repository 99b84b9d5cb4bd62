"""Which instances may score below a bound, found without looking closely at all of them.

A score of memory and requests (freeness) only falls during a span of steps, and by the end of the span at the latest it is as low as it
gets. So what an instance would score then is the least it can score until a new plan is made, a request comes, lands or leaves, or memory
is taken for another; only the instances of which one of these is true need a look.
"""

from __future__ import annotations

from collections.abc import Sequence

from simserve.contracts.cluster import Score
from simserve.engine.instance import Instance
from simserve.engine.instance_state import InstanceState
from simserve.engine.kv_cache import KvCache
from simserve.engine.plan import StepPlan
from simserve.engine.request import LiveRequest


class Watch:
    """The instances of a cluster by the least that each can score."""

    def __init__(self, instances: Sequence[Instance], score: Score) -> None:
        self._score = score
        self._instances = [(number, instance, *_watched(instance)) for number, instance in enumerate(instances)]
        self._signals = instances[0].signals
        size = len(instances)
        # What was seen of each when it was last looked at: plans, requests, free blocks, landed requests. No plan has a number below 0.
        self._plans, self._outstanding, self._blocks, self._landed = [-1] * size, [0] * size, [0] * size, [0] * size
        self._least = [0.0] * size

    def below(self, bound: float) -> list[int]:
        """Numbers of the instances that drain, or are up and may score below `bound`, rising: all that do, and some that do not."""
        found, least, up = [], self._least, InstanceState.UP
        plans, requests, free, landed_before = self._plans, self._outstanding, self._blocks, self._landed
        outstanding, waiting = self._signals.outstanding, self._signals.waiting
        for number, instance, plan, kv, landed in self._instances:
            if instance.state is not up:
                if instance.state is InstanceState.DRAINING:
                    found.append(number)
                continue
            if plan is None or waiting[number]:
                plans[number] = -1
                least[number] = self._score(instance.least_load())
            elif (
                plan.serial != plans[number]
                or outstanding[number] != requests[number]
                or kv._free != free[number]
                or len(landed) != landed_before[number]
            ):
                plans[number], requests[number], free[number], landed_before[number] = (
                    plan.serial,
                    outstanding[number],
                    kv._free,
                    len(landed),
                )
                least[number] = self._score(instance.least_load())
            if least[number] < bound:
                found.append(number)
        return found


def _watched(instance: Instance) -> tuple[StepPlan | None, KvCache, list[LiveRequest]]:
    """Plan, memory and landed requests of an instance whose load changes with few things only. No plan: it has other lanes, drafts tokens,
    or its requests wait for loads."""
    lane = instance.runner.lanes[0]
    few = len(instance.runner.lanes) == 1 and lane.batch.speculating is None and not instance.spec.loads
    return lane.plan if few else None, instance.kv, lane.batch.landed
