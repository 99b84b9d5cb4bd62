"""One model replica: a waiting queue, a KV cache and its lanes. Decides which lane starts a step when, nothing else."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from simpy.events import Event

from simserve.contracts import Load, capable
from simserve.engine.clock import Clock
from simserve.engine.cluster_view import Signals
from simserve.engine.kv_cache import KvCache
from simserve.engine.lane import Lane
from simserve.engine.life import Life
from simserve.engine.link import Link
from simserve.engine.pipeline import Pipeline
from simserve.engine.prefix_cache import PrefixCache
from simserve.engine.recorder import Recorder
from simserve.engine.request import LiveRequest, seen_by
from simserve.engine.spec import InstanceSpec, LinkSpec
from simserve.engine.timers import PATIENCE
from simserve.engine.waiting import FcfsQueue, SortedQueue, WaitingQueue
from simserve.errors import PolicyError

if TYPE_CHECKING:
    from simserve.engine.handover import Handover
    from simserve.engine.migration import Migration

_load = tuple.__new__  # half the time of the named tuple's own, and routers ask a few times a request

MOST_REORDERED = 128
"""With more waiting requests a cache-dependent order is left as it is (SGLang's rule for its longest-prefix order)."""


class Instance:
    """The running form of an InstanceSpec.

    final_tokens[row]  output tokens at which a request ends (hidden from policies), shared by all instances
    signals            the cluster's counters, of which this instance keeps its own up to date
    prefix_block_tokens  tokens per id of the workload's prompt contents, 0 = contents unknown
    ended              called with the requests that have just ended and the time
    """

    def __init__(
        self,
        spec: InstanceSpec,
        index: int,
        lane_offset: int,
        clock: Clock,
        recorder: Recorder,
        final_tokens: array[int],
        ended: Callable[[list[LiveRequest], Instance, float], None],
        fast_forward: bool,
        signals: Signals,
        uplink: Link | None = None,
        prefix_block_tokens: int = 0,
    ) -> None:
        self.spec = spec
        self.index = index
        self.lane_offset = lane_offset
        self.clock = clock
        self.recorder = recorder
        self.final_tokens = final_tokens
        self._tell_ended = ended
        self.audit: Callable[[Lane], None] | None = None
        """Called after every span when the run is checked."""
        self.fast_forward = fast_forward
        self.scheduler = spec.scheduler
        self.policy_name = spec.policy_name
        self.cost = spec.cost
        self.order = spec.order
        prefix = PrefixCache(spec.block_tokens, prefix_block_tokens) if spec.prefix_caching and prefix_block_tokens else None
        self.kv = KvCache(spec.kv_blocks, spec.block_tokens, spec.watermark_blocks, spec.host_kv_blocks, prefix)
        self._oracle = capable(spec.scheduler, "oracle") or capable(self.order, "oracle")
        self._hears_ends = capable(spec.scheduler, "hears_ends")
        self.swaps = spec.preemption == "swap"
        self.limit_tokens = spec.limit_tokens
        self.waiting: WaitingQueue = FcfsQueue() if self.order.key is None else SortedQueue(self.order.key)
        self.reorders = self.order.dynamic and prefix is not None
        self.inbox: list[LiveRequest] = []
        self.unseen: deque[tuple[LiveRequest, int]] = deque()
        """Newcomers that the coming steps have been scheduled without, each with how many of these are left; the least come first."""
        self.link = Link(clock, spec.link.bytes_per_s, spec.link.latency_s, spec.link.per_message_s) if spec.link is not None else None
        self.uplink = uplink
        self.life = Life.UP if spec.starts else Life.OFF
        self.handover: Handover | None = None
        """Set on the instances of a disaggregated cluster."""
        self.migrating: dict[int, Migration] = {}
        """Migrations from here to elsewhere, by row of the request."""
        self.on_empty: Callable[[Instance], None] | None = None
        """Called when the last request has left a draining instance."""
        self.admissions = 0
        self.swapped_tokens = 0
        self.signals = signals
        stages = spec.cost.stages
        self.lanes = [Lane(self, index) for index in range(stages)]
        self.pipeline = Pipeline(self) if stages > 1 else None
        self._wake_event: Event | None = None
        self._again: Event | None = None
        self._postponed = 0

    def seen(self, request: LiveRequest) -> LiveRequest:
        """A request that is about to enter, as the policies here may see it. Called wherever a request comes from: a router, a copy."""
        return seen_by(request, self._oracle, self.final_tokens[request.row])

    @property
    def outstanding(self) -> int:
        """Requests that were sent here and have not left."""
        return self.signals.outstanding[self.index]

    def expect(self, request: LiveRequest) -> None:
        """A request is on its way to this instance and counts as its own from now on."""
        self.signals.outstanding[self.index] += 1
        self.signals.prompt_tokens[self.index] += request.prompt_tokens

    def forget(self, request: LiveRequest) -> None:
        """A request has left, or will not come."""
        self.signals.outstanding[self.index] -= 1
        self.signals.prompt_tokens[self.index] -= request.prompt_tokens
        self.signals.ease(self.index)
        if self.life is Life.DRAINING and not self.outstanding and self.on_empty is not None:
            self.on_empty(self)

    def submit(self, request: LiveRequest) -> None:
        """An expected request enters. It is seen by every plan made at this instant or later."""
        self.inbox.append(request)
        self.signals.waiting[self.index] += 1
        now = self.clock.now
        lanes = self.lanes
        if self.pipeline is None and lanes[0].busy:
            lanes[0].arrival(now)
        elif self._wake_event is None:
            self._wake_event = self.clock.at(now, self._wake, self.lanes[0].priority)

    @property
    def is_busy(self) -> bool:
        """Whether a step is in progress."""
        return any(lane.busy for lane in self.lanes)

    def poke(self) -> None:
        """Something outside has changed (memory, requests that landed): plan again, at the end of the step in progress if there is one."""
        lane = self.lanes[0]
        if self.pipeline is None and lane.busy:
            lane.interrupt(self.clock.now)
        elif self._wake_event is None:
            self._wake_event = self.clock.at(self.clock.now, self._wake, self.lanes[0].priority)

    def at_boundary(self, lane: Lane, action: Callable[[float], None]) -> None:
        """Calls `action(now)` when the lane is between two steps: now, or at the end of the step in progress."""
        if lane.busy:
            lane.boundary.append(action)
            if self.pipeline is None:
                lane.interrupt(self.clock.now)
        else:
            action(self.clock.now)

    def path_to(self, other: Instance) -> tuple[Link, LinkSpec]:
        """How KV reaches another instance: inside a node through this instance's link, between nodes through the node's."""
        if self.uplink is not None and self.spec.uplink is not None and other.spec.node != self.spec.node:
            return self.uplink, self.spec.uplink
        assert self.link is not None and self.spec.link is not None
        return self.link, self.spec.link

    def reserve(self, row: int, blocks: int) -> None:
        """Takes free KV blocks for a request on its way here: between steps, or with a poke afterwards; only as many as are free now."""
        self.kv.reserve(row, blocks)

    def unreserve(self, row: int) -> None:
        """The request will not come."""
        if self.kv.cancel(row, self.grown_blocks):
            self.signals.ease(self.index)
            self.poke()

    def set_aside(self, request: LiveRequest) -> None:
        """The KV of a request stays here while the request is in no lane."""
        self.kv.set_aside(request)
        self.signals.ease(self.index)

    def take_back(self, request: LiveRequest) -> None:
        """A request whose KV was set aside goes on here."""
        self.kv.take_back(request)
        self.expect(request)
        self.land(request)

    def let_go(self, request: LiveRequest) -> None:
        """The KV of a request that was set aside is not needed any more."""
        self.kv.let_go(request, self.grown_blocks)
        self.signals.ease(self.index)
        self.poke()

    @property
    def grown_blocks(self) -> int:
        """KV blocks taken at this moment by the steps that have passed in a span in progress; the cache counts them when it ends."""
        return 0 if self.pipeline is not None else self.lanes[0].blocks_grown(self.clock.now)  # pipelines plan step by step

    def load(self, exact: bool = True) -> Load:
        """Memory and requests at this moment; not `exact` = the memory as if no step had passed since the last plan."""
        kv = self.kv
        head_blocks, running = 0, 0
        if waiting := self.signals.waiting[self.index]:
            head = next(iter(self.waiting or self.inbox)) if not self.unseen else self.queued()[0]
            head_blocks = kv.blocks(head.target_tokens)
        for lane in self.lanes:
            running += len(lane.prefilling) + len(lane.group.members)
            if lane.swapped or lane.landed:
                running += len(lane.swapped) + len(lane.landed)
        free_blocks = kv.free_blocks - self.grown_blocks if exact else kv.free_blocks
        return _load(Load, (free_blocks, kv.total_blocks, running, waiting, head_blocks))

    @property
    def queue_length(self) -> int:
        """Requests that wait, those included that no plan has seen yet."""
        return len(self.waiting) + len(self.unseen) + len(self.inbox)

    def queued(self) -> list[LiveRequest]:
        """All that wait, in order."""
        return [*self.waiting, *(request for request, _ in self.unseen), *self.inbox]

    def crash(self, now: float) -> list[LiveRequest]:
        """The instance dies: its KV is gone. Returns the requests that were in its queue and lanes, waiting again, in order of their rows;
        tokens of the step in progress were never computed."""
        lost = self.queued()
        for lane in self.lanes:
            lost += lane.crash(now)
        for request in list(self.waiting):
            self.waiting.remove(request)
        self.inbox.clear()
        self.unseen.clear()
        if self.pipeline is not None:
            self.pipeline.crash(now)
        self.kv.clear()
        self.signals.waiting[self.index] = 0
        self.signals.ease(self.index)
        for request in lost:
            request.lose_kv()
            self.forget(request)
        return sorted(lost, key=lambda request: request.row)

    def land(self, request: LiveRequest) -> None:
        """A request has arrived with its KV (request.held_blocks of this instance): it decodes as soon as a seat is free."""
        lane = min(self.lanes, key=lambda lane: (lane.view.running + len(lane.landed), lane.index))
        lane.landed.append(request)
        self.poke()

    def hand_over(self, request: LiveRequest) -> bool:
        """Whether a request that has emitted its first token here decodes elsewhere; it is then on its way."""
        return self.handover is not None and self.handover.prefilled(self, request)

    def ended(self, requests: list[LiveRequest], now: float) -> None:
        """Requests have left the instance for good."""
        for request in requests:
            if self.migrating and request.row in self.migrating:
                self.migrating[request.row].abort("the request ended")
            self.forget(request)
        if self._hears_ends:
            self.scheduler.ended(requests, now)
        self._tell_ended(requests, self, now)

    def others_work(self, lane: Lane) -> bool:
        """Whether another lane has requests (whose steps will free memory)."""
        if self.kv.elsewhere or self.handover is not None:
            return True
        others = (other for other in self.lanes if other is not lane)
        return self.pipeline is not None and any(
            other.group.members or other.prefilling or other.swapped or other.landed for other in others
        )

    def after_step(self, lane: Lane, now: float) -> None:
        """A lane's step is over and its tokens are out: the next step."""
        self._postponed = 0
        while lane.boundary:
            lane.boundary.pop(0)(now)
        self.pull()
        if self.pipeline is not None:
            self._take_in()
            self.pipeline.step_ended(lane, now)
        else:
            if self.unseen:
                self._come_nearer(lane.steps)
            if self.inbox:
                self._take_in()
            lane.start(now)

    def ask_again(self, at_s: float) -> None:
        """A policy that plans nothing now wants to be asked at `at_s`. Raises PolicyError when it does so for ever."""
        self._postponed += 1
        if self._postponed > PATIENCE:
            raise PolicyError(
                f"policy '{self.policy_name}' has planned nothing {PATIENCE} times in a row, until a later time each time, with "
                f"{self.queue_length} requests waiting: no progress is possible (invariant I5)"
            )
        self._again = self.clock.at(at_s, self._ask, self.lanes[0].priority)

    def _ask(self, event: Event) -> None:
        """A policy's time has come, if it has not stated another one since."""
        if event is self._again:
            self._again = None
            if not any(lane.busy for lane in self.lanes):
                self._wake(event)

    def _wake(self, event: Event) -> None:
        self._wake_event = None
        self.clock.pass_by(self.lanes[0].priority)
        if self.life is Life.OFF:
            return
        now = self.clock.now
        lane = self.lanes[0]
        if self.pipeline is not None:
            self.look(now)
        elif lane.busy and lane.landed:
            lane.interrupt(now)
        elif lane.busy:
            lane.arrival(now)
        else:
            self._take_in()
            lane.start(now)

    def pull(self) -> None:
        """Fetches requests that have been prefilled elsewhere, as memory allows. Called between steps and when a plan left it idle (such a
        plan may have freed memory)."""
        if self.handover is not None and not self.claimed:
            self.handover.pull(self)

    @property
    def claimed(self) -> bool:
        """Whether a running request waits for memory before anybody else may take any (see Pipeline)."""
        return self.pipeline is not None and self.pipeline.claim is not None

    def look(self, now: float) -> None:
        """With pipeline stages: newcomers queue, and lanes that are idle may start steps."""
        assert self.pipeline is not None
        self._take_in()
        self.pipeline.dispatch(now)

    def _take_in(self) -> None:
        """Moves newcomers to the waiting queue, in order of (time, row)."""
        inbox = self.inbox
        if len(inbox) > 1:
            inbox.sort(key=lambda r: (r.arrival_s, r.row))
        for request in inbox:
            if self.spec.steps_ahead and self.lanes[0].busy and self.pipeline is None:
                self.unseen.append((request, self.spec.steps_ahead))
            else:
                self.waiting.push(request)
        inbox.clear()

    def _come_nearer(self, steps: int) -> None:
        """Steps are over: newcomers for whom they were the last ones scheduled without them are seen."""
        unseen = self.unseen
        for _ in range(len(unseen)):
            request, left = unseen.popleft()
            if left > steps:
                unseen.append((request, left - steps))
            else:
                self.waiting.push(request)

    def see_all(self) -> None:
        """Nothing else is to be done: the newcomers are seen."""
        while self.unseen:
            self.waiting.push(self.unseen.popleft()[0])

    def reorder(self) -> None:
        """Brings the waiting queue in order again where the order depends on what is cached now."""
        waiting = self.waiting
        if isinstance(waiting, SortedQueue) and len(waiting) <= MOST_REORDERED:
            for request in list(waiting):
                waiting.remove(request)
                request.cached_estimate = self.kv.cached_tokens(request)
                waiting.push(request)
