"""The lanes of an instance with pipeline stages: whose step starts when, and which gives up memory to which (docs/invariants.md, "Pipeline
stages that share memory")."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simserve.engine.clock import Event
from simserve.engine.events import STAGE_FREE
from simserve.engine.lane import Lane
from simserve.engine.request import LiveRequest
from simserve.engine.runner import Waker

if TYPE_CHECKING:
    from simserve.engine.instance import Instance


class Pipeline:
    """Each stage works on one micro-batch, that is on the step of one lane, at a time. The lanes share the queue and the KV cache.

    claim  the request that keeps its KV and waits for more: until it has got it, or has left, no request is admitted, comes back from the
           host or is fetched from elsewhere
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.claim: LiveRequest | None = None
        self.lanes = [Lane(instance, self, index) for index in range(instance.cost.stages)]
        self._stage_free_s = [0.0] * len(self.lanes)
        self._next_lane = 0
        self._yielding: list[Lane] = []
        """Lanes that have given up their memory: they do not take it back before another lane has had a step's worth of it."""
        self._preempted = False
        self._waker = Waker(instance.clock, instance.lane_offset, self._wake)

    @property
    def busy(self) -> bool:
        """Whether a step is in progress."""
        return any(lane.busy for lane in self.lanes)

    def arrived(self) -> None:
        """A request has come: idle lanes may start steps."""
        self._waker.soon()

    def poke(self) -> None:
        """Something outside has changed: plan again."""
        self._waker.soon()

    def at_boundary(self, lane: Lane, action: Callable[[float], None]) -> None:
        """Calls `action(now)` between two steps of the lane."""
        if lane.busy:
            lane.boundary.append(action)
        else:
            action(self._instance.clock.now)

    def ask_again(self, at_s: float) -> None:
        """A policy that plans nothing now wants to be asked at `at_s`."""
        self._instance.postponed += 1
        self._waker.later(at_s, self._instance.policy_name)

    def _wake(self, now: float) -> None:
        if not self._instance.is_off:
            self._look(now)

    def _look(self, now: float) -> None:
        """Newcomers queue, and lanes that are idle may start steps."""
        self._instance.intake.take_in()
        self._dispatch(now)

    def others_work(self, lane: Lane) -> bool:
        """Whether another lane has requests."""
        return any(len(other.batch) for other in self.lanes if other is not lane)

    @property
    def grown_blocks(self) -> int:
        """None: pipelines plan step by step."""
        return 0

    def keeps_kv(self, request: LiveRequest) -> bool:
        """Whether a running request may not be preempted: of those that run in all lanes it is the one to be preempted last, and another
        lane holds KV as well. Its lane then waits for what the others give up. That one request always keeps what it has is why the lanes
        cannot preempt each other for ever."""
        mine, others = 0, 0
        key = self._instance.order.victim_key
        last = key(request)
        for lane in self.lanes:
            running = (*lane.group.members.values(), *lane.batch.prefilling, *lane.batch.verifying)
            if any(key(other) < last for other in running):
                return False
            if request in running:
                mine += 1
            else:
                others += len(running) + len(lane.batch.landed)
        return bool(mine and others)

    def gave_up_kv(self) -> None:
        """A request of the instance has given up its KV: requests that wait for memory are asked again."""
        self._preempted = True

    def step_ended(self, lane: Lane, now: float) -> None:
        """A lane's step has left the last stage: the next steps."""
        self._waker.postponed = 0
        while lane.boundary:
            lane.boundary.pop(0)(now)
        self._instance.pull()
        self._instance.intake.take_in()
        lane.busy = False
        if self._yielding:
            self._yielding.clear()
            self._next_lane = lane.index
        self._dispatch(now)

    def _dispatch(self, now: float) -> None:
        """Starts steps of idle lanes, in turn, as long as the first stage is free.

        When no lane has a step in flight, no other request will give up memory: then requests from elsewhere are fetched, and lanes that
        have given up theirs are asked again, as long as any request is preempted.
        """
        while True:
            self._preempted = False
            self._start_lanes(now)
            if self._stage_free_s[0] > now or self.busy:
                return
            self._yielding.clear()
            self._instance.pull()
            if not self._preempted:
                return

    def _start_lanes(self, now: float) -> None:
        """Asks the idle lanes for steps; the lane of a request with a claim on memory comes first."""
        free, lanes, clock = self._stage_free_s, self.lanes, self._instance.clock
        if self.claim is not None:
            self._settle_claim()
        for turn in range(len(lanes)):
            if free[0] > now:
                return
            lane = lanes[(self._next_lane + turn) % len(lanes)]
            if lane.busy or lane in self._yielding:
                continue
            plan = lane.plan_step(now)
            if plan is None:
                if lane.plan.preempted:
                    self._yielding.append(lane)
                continue
            self._next_lane = (lane.index + 1) % len(lanes)
            if self.claim is not None and (self.claim in plan.sliced or (plan.decodes and self.claim.row in lane.group.members)):
                self.claim = None
            end = now
            for stage, stage_s in enumerate(lane.stage_times(plan)):
                if free[stage] > end:
                    end = free[stage]
                free[stage] = end = end + stage_s
            lane.start_at(now, end)
            clock.at(free[0], self._first_stage_free, STAGE_FREE + lane.number)

    def _settle_claim(self) -> None:
        """The lane of the request that waits for memory is asked first; a request that does not run any more waits for none."""
        claim, self.claim = self.claim, None
        for lane in self.lanes:
            if claim is not None and (claim.row in lane.group.members or claim in lane.batch.prefilling):
                self.claim, self._next_lane = claim, lane.index

    def _first_stage_free(self, event: Event) -> None:
        self._instance.clock.pass_by(self.lanes[0].priority)
        self._look(self._instance.clock.now)

    def crash(self, now: float) -> None:
        """The instance dies: its stages are empty."""
        self._yielding.clear()
        self.claim = None
        self._stage_free_s = [now] * len(self._stage_free_s)
