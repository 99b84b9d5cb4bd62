"""The lanes of an instance with pipeline stages: whose step starts when, and which gives up memory to which (docs/invariants.md, "Pipeline
stages that share memory")."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from simserve.contracts import capable
from simserve.engine.clock import Event
from simserve.engine.events import STAGE_FREE
from simserve.engine.lane import Lane
from simserve.engine.request import LiveRequest
from simserve.engine.runner import Waker
from simserve.engine.stage_span import StageSpan, worthwhile

if TYPE_CHECKING:
    from simserve.engine.instance import Instance
    from simserve.engine.plan import StepPlan


class Pipeline:
    """Each stage works on one micro-batch, that is on the step of one lane, at a time. The lanes share the queue and the KV cache.

    claim  the request that keeps its KV and waits for more: until it has got it, or has left, no request is admitted, comes back from the
           host or is fetched from elsewhere

    A policy that holds a plan of decodes would make the same again until something happens, which here counts up (`_happenings`): a
    request comes or ends, gives up memory, is admitted while others wait. Until then the lane's steps follow without asking it, and while
    that is so of all lanes, their steps are worked out ahead (`stage_span.py`): one event instead of two for each. What looks from
    outside meanwhile has them noted first (`settle`), and everything is as it would be without.
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
        # A claim keeps the others from memory that is there: no plan made beside one holds (`_ask`).
        self._holds = instance.fast_forward and instance.spec.speculation is None and not capable(instance.scheduler, "asked_each_step")
        self._happenings = 0
        self._free_event: Event | None = None
        self._freed = self._first_stage_free  # one bound method for all events
        self._leaver = -1
        """Index of the lane whose step is in the first stage, -1 = it has left."""
        self._span: StageSpan | None = None
        self._span_event: Event | None = None
        self._unworthy = -1
        """What had happened when working steps out ahead was last found not to be worth it."""

    @property
    def busy(self) -> bool:
        """Whether a step is in progress."""
        return any(lane.busy for lane in self.lanes)

    def arrived(self) -> None:
        """A request has come: idle lanes may start steps."""
        self.settle()
        self._happenings += 1
        self._waker.soon()

    def poke(self) -> None:
        """Something outside has changed: plan again."""
        self.arrived()

    def at_boundary(self, lane: Lane, action: Callable[[float], None]) -> None:
        """Calls `action(now)` between two steps of the lane."""
        self.settle()
        self._happenings += 1
        if lane.busy:
            lane.boundary.append(action)
        else:
            action(self._instance.clock.now)

    def ask_again(self, at_s: float) -> None:
        """A policy that plans nothing now wants to be asked at `at_s`."""
        self._instance.postponed += 1
        self._waker.later(at_s, self._instance.policy_name)

    def _wake(self, now: float) -> None:
        self.settle()
        if not self._instance.is_off:
            self._look(now)

    def _look(self, now: float) -> None:
        """Newcomers queue, and lanes that are idle may start steps."""
        if self._instance.intake.inbox:
            self._instance.intake.take_in()
        self._dispatch(now)

    def others_work(self, lane: Lane) -> bool:
        """Whether another lane has requests."""
        return any(len(other.batch) for other in self.lanes if other is not lane)

    @property
    def grown_blocks(self) -> int:
        """None: they are counted now."""
        self.settle()
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
        self._happenings += 1

    def step_ended(self, lane: Lane, now: float) -> None:
        """A lane's step has left the last stage: the next steps."""
        self._waker.postponed = 0
        kv = self._instance.kv
        if lane.plan.slices and (kv.prefix is not None or kv.groups is not None):  # contents to be found, windows that got shorter
            self._happenings += 1
        while lane.boundary:
            self._happenings += 1
            lane.boundary.pop(0)(now)
        if self._instance.kv_transfers is not None:
            self._instance.pull()
        if self._instance.intake.inbox:
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
        if self._stage_free_s[0] > now and self.claim is None:
            return
        while True:
            self._preempted = False
            self._start_lanes(now)
            if self._stage_free_s[0] > now or self.busy:
                if self._holds:
                    self._foresee()
                return
            self._yielding.clear()
            self._instance.pull()
            if not self._preempted:
                return

    def _start_lanes(self, now: float) -> None:
        """Asks the idle lanes for steps; the lane of a request with a claim on memory comes first."""
        free, lanes = self._stage_free_s, self.lanes
        if self.claim is not None:
            self._settle_claim()
        turn, count = -1, len(lanes)
        while free[0] <= now and (turn := turn + 1) < count:
            lane = lanes[(self._next_lane + turn) % count]
            if lane.busy or (self._yielding and lane in self._yielding):
                continue
            if lane.held == self._happenings and self.claim is None:
                if not lane.plan.decodes:
                    continue
                plan = lane.plan if lane.goes_on(now) else self._ask(lane, now)
            else:
                plan = self._ask(lane, now)
            if plan is None:
                if lane.plan.preempted:
                    self._yielding.append(lane)
                continue
            self._next_lane = (lane.index + 1) % count
            if self.claim is not None and (self.claim in plan.sliced or (plan.decodes and self.claim.row in lane.group.members)):
                self.claim = None
            end = now
            for stage, stage_s in enumerate(lane.stage_times(plan)):
                if (free_s := free[stage]) > end:
                    end = free_s
                free[stage] = end = end + stage_s
            lane.start_at(now, end)
            self._leaver = lane.index
            self._free_event = self._instance.clock.at(free[0], self._freed, STAGE_FREE + lane.number)

    def _ask(self, lane: Lane, now: float) -> StepPlan | None:
        """The policy's plan for the coming step of a lane, and whether it holds."""
        queue = self._instance.intake.waiting._queue
        waiting, claimed, happenings = len(queue), self.claim is not None, self._happenings
        found, plan = lane.plan_step(now), lane.plan
        lane.held = -1
        if plan.slices or plan.swap_times_s or plan.loads:
            if waiting or len(queue):  # what is left for the others is not what it was
                self._happenings += 1
        elif self._may_hold and plan.repeat > 1 and plan.until_s is None and not plan.preempted and not claimed and self.claim is None:
            lane.held, lane.held_steps = happenings, plan.repeat - 1
        return found

    @property
    def _may_hold(self) -> bool:
        """Not where contents are put in order at each step of a batch, nor where steps may forget some that waiting requests would find."""
        kv = self._instance.kv
        return self._holds and kv.radix is None and (kv.prefix is None or not len(self._instance.intake.waiting))

    def _foresee(self) -> None:
        """Works the coming steps out, if all lanes would be planned as before."""
        happenings, lanes, instance = self._happenings, self.lanes, self._instance
        if self._unworthy == happenings:
            return
        for lane in lanes:
            if lane.held != happenings or lane.boundary:
                return
        if self.claim is not None or self._yielding or instance.pulls or instance.intake.inbox:
            return
        if not worthwhile(lanes):
            self._unworthy = happenings
            return
        span = StageSpan(lanes, self._stage_free_s, self._next_lane, self._leaver)
        if not span.go_on(self._next_urgent_s()):
            self._unworthy = happenings
            return
        for lane in lanes:
            if lane.plan.decodes:
                lane.suspend()
        self._free_event = None
        self._span = span
        self._next_of(span)

    def _next_urgent_s(self) -> float:
        """When something comes that is no step's: known where there is one instance, inf elsewhere."""
        if len(self._instance.signals.outstanding) > 1:
            return inf
        return min([time_s for time_s, priority, _, _ in self._instance.clock.to_come if priority < STAGE_FREE], default=inf)

    def _next_of(self, span: StageSpan) -> None:
        """What comes after the steps that are worked out."""
        self._span_event = self._instance.clock.at(span.until_s, self._span_passed, self.lanes[span.priority].priority)

    def _span_passed(self, event: Event) -> None:
        """All steps that were worked out have passed: more of them, or what comes next, which is an event of its own, at this time."""
        if event is self._span_event:
            assert self._span is not None
            if self._span.go_on(self._next_urgent_s()):
                self._next_of(self._span)
            else:
                self.settle()

    def settle(self) -> None:
        """Ends the span in progress, if there is one: notes what has started or ended by now. Steps in flight have events again."""
        span = self._span
        if span is None:
            return
        self._span = self._span_event = None
        clock, lanes, first = self._instance.clock, self.lanes, span.flying
        ended, begun = span.passed(clock)
        span.note(ended, begun)
        if begun:
            self._stage_free_s = span.free_s[begun - 1]
            self._leaver = span.lanes[first + begun - 1]
            self._next_lane = (self._leaver + 1) % len(lanes)
        for number in range(ended, first + begun):
            lanes[span.lanes[number]].resume(span.ends_s[number])
        if self._leaver >= 0:
            free_s, priority = self._stage_free_s[0], lanes[self._leaver].priority
            if free_s > clock.now or (free_s == clock.now and not clock.has_passed(priority)):
                self._free_event = clock.at(free_s, self._freed, priority)
            else:
                self._leaver = -1

    def _settle_claim(self) -> None:
        """The lane of the request that waits for memory is asked first; a request that does not run any more waits for none."""
        claim, self.claim = self.claim, None
        for lane in self.lanes:
            if claim is not None and (claim.row in lane.group.members or claim in lane.batch.prefilling):
                self.claim, self._next_lane = claim, lane.index

    def _first_stage_free(self, event: Event) -> None:
        if event is not self._free_event:
            return
        self._leaver = -1
        clock = self._instance.clock
        clock.pass_by(self.lanes[0].priority)
        self._look(clock.now)

    def crash(self, now: float) -> None:
        """The instance dies: its stages are empty."""
        self._yielding.clear()
        self.claim = None
        self._happenings += 1
        self._stage_free_s = [now] * len(self._stage_free_s)
