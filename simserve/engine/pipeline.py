"""The lanes of an instance with pipeline stages: whose step starts when, and who gives up memory to whom (docs/invariants.md, "Pipeline
stages that share memory")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simpy.events import Event

from simserve.engine.lane import Lane
from simserve.engine.request import LiveRequest

if TYPE_CHECKING:
    from simserve.engine.instance import Instance


class Pipeline:
    """Each stage works on one micro-batch, that is on the step of one lane, at a time. The lanes share the queue and the KV cache.

    claim  the request that keeps its KV and waits for more: until it has got it, or has left, nobody is admitted, comes back from the host
           or is fetched from elsewhere
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._stage_free_s = [0.0] * len(instance.lanes)
        self._next_lane = 0
        self._yielding: list[Lane] = []
        """Lanes that have given up their memory: they do not take it back before another lane has had a step's worth of it."""
        self._preempted = False
        self.claim: LiveRequest | None = None

    def keeps_kv(self, request: LiveRequest) -> bool:
        """Whether a running request may not be preempted: of those that run in all lanes it is the one to be preempted last, and another
        lane holds KV as well. Its lane then waits for what the others give up. That somebody always keeps what he has is why the lanes
        cannot preempt each other for ever."""
        mine, others = 0, 0
        key = self._instance.order.victim_key
        last = key(request)
        for lane in self._instance.lanes:
            running = (*lane.group.members.values(), *lane.prefilling)
            if any(key(other) < last for other in running):
                return False
            if request in running:
                mine += 1
            else:
                others += len(running) + len(lane.landed)
        return bool(mine and others)

    def preempted(self) -> None:
        """A request of the instance has given up its KV: those who wait for memory are asked again."""
        self._preempted = True

    def step_ended(self, lane: Lane, now: float) -> None:
        """A lane's step has left the last stage."""
        lane.busy = False
        if self._yielding:
            self._yielding.clear()
            self._next_lane = lane.index
        self.dispatch(now)

    def dispatch(self, now: float) -> None:
        """Starts steps of idle lanes, in turn, as long as the first stage is free.

        When no lane has a step in flight, nobody else will give up memory: then requests from elsewhere are fetched, and lanes that have
        given up theirs are asked again, as long as anybody is preempted.
        """
        while True:
            self._preempted = False
            self._start_lanes(now)
            if self._stage_free_s[0] > now or self._instance.is_busy:
                return
            self._yielding.clear()
            self._instance.pull()
            if not self._preempted:
                return

    def _start_lanes(self, now: float) -> None:
        """Asks the idle lanes for steps; the lane of a request with a claim on memory comes first."""
        free, lanes, clock = self._stage_free_s, self._instance.lanes, self._instance.clock
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
                if lane.view.plan.preempted:
                    self._yielding.append(lane)
                continue
            self._next_lane = (lane.index + 1) % len(lanes)
            if self.claim is not None and (self.claim in plan.prefilled or (plan.decodes and self.claim.row in lane.group.members)):
                self.claim = None
            end = now
            for stage, stage_s in enumerate(lane.stage_times(plan)):
                end = max(end, free[stage]) + stage_s
                free[stage] = end
            lane.start_at(now, end)
            clock.at(free[0], self._first_stage_free, lane.priority)

    def _settle_claim(self) -> None:
        """The lane of the request that waits for memory is asked first; a request that does not run any more waits for none."""
        claim, self.claim = self.claim, None
        for lane in self._instance.lanes:
            if claim is not None and (claim.row in lane.group.members or claim in lane.prefilling):
                self.claim, self._next_lane = claim, lane.index

    def _first_stage_free(self, event: Event) -> None:
        self._instance.clock.pass_by(self._instance.lanes[0].priority)
        self._instance.look(self._instance.clock.now)

    def crash(self, now: float) -> None:
        """The instance dies: its stages are empty."""
        self._yielding.clear()
        self.claim = None
        self._stage_free_s = [now] * len(self._stage_free_s)
