"""One model replica: a waiting queue, a KV cache and its lanes. Decides which lane starts a step when, nothing else."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

from simpy.events import Event

from simserve.engine.clock import Clock
from simserve.engine.kv_cache import KvCache
from simserve.engine.lane import Lane
from simserve.engine.link import Link
from simserve.engine.prefix_cache import PrefixCache
from simserve.engine.recorder import Recorder
from simserve.engine.request import LiveRequest
from simserve.engine.spec import InstanceSpec
from simserve.engine.waiting import FcfsQueue, SortedQueue, WaitingQueue
from simserve.policies import registry

if TYPE_CHECKING:
    from simserve.engine.handover import Handover

MOST_REORDERED = 128
"""With more waiting requests a cache-dependent order is left as it is (SGLang's rule for its longest-prefix order)."""


class Instance:
    """The running form of an InstanceSpec.

    final_tokens[row]  output tokens at which a request ends (hidden from policies), shared by all instances
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
        ended: Callable[[list[LiveRequest], float], None],
        fast_forward: bool,
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
        self.order = registry.order(spec.order)
        self.kv = KvCache(spec.kv_blocks, spec.block_tokens, spec.watermark_blocks, spec.host_kv_blocks)
        self.swaps = spec.preemption == "swap"
        self.limit_tokens = spec.limit_tokens
        self.waiting: WaitingQueue = FcfsQueue() if self.order.key is None else SortedQueue(self.order.key)
        self.prefix = PrefixCache(self.kv, prefix_block_tokens) if spec.prefix_caching and prefix_block_tokens else None
        self.reorders = self.order.dynamic and self.prefix is not None
        self.inbox: list[LiveRequest] = []
        self.link = Link(clock, spec.link.bytes_per_s, spec.link.latency_s, spec.link.per_message_s) if spec.link is not None else None
        self.handover: Handover | None = None
        """Set on the instances of a disaggregated cluster."""
        self.elsewhere: dict[int, int] = {}
        """KV blocks held here for requests that are in no lane: handed over and not yet copied, or on their way here."""
        self.admissions = 0
        self.swapped_tokens = 0
        self.outstanding = 0
        stages = spec.cost.stages
        self.lanes = [Lane(self, index) for index in range(stages)]
        self._pipelined = stages > 1
        self._stage_free_s = [0.0] * stages
        self._next_lane = 0
        self._yielding: list[Lane] = []
        """Lanes that have given up their memory: they do not take it back before another lane has had a step's worth of it."""
        self._wake_event: Event | None = None

    @property
    def needs_oracle(self) -> bool:
        """Whether requests given to this instance must show their true output length."""
        return bool(getattr(self.scheduler, "oracle", False) or self.order.oracle)

    def submit(self, request: LiveRequest) -> None:
        """A request enters. It is seen by every plan made at this instant or later."""
        self.inbox.append(request)
        self.outstanding += 1
        now = self.clock.now
        lanes = self.lanes
        if not self._pipelined and lanes[0].busy:
            lanes[0].arrival(now)
        elif self._wake_event is None:
            self._wake_event = self.clock.at(now, self._wake)

    @property
    def is_busy(self) -> bool:
        """Whether a step is in progress."""
        return any(lane.busy for lane in self.lanes)

    def poke(self) -> None:
        """Something outside has changed (memory, requests that landed): plan again, at the end of the step in progress if there is one."""
        lane = self.lanes[0]
        if not self._pipelined and lane.busy:
            lane.interrupt(self.clock.now)
        elif self._wake_event is None:
            self._wake_event = self.clock.at(self.clock.now, self._wake)

    def land(self, request: LiveRequest) -> None:
        """A request has arrived with its KV (request.held_blocks of this instance): it decodes as soon as a seat is free."""
        lane = min(self.lanes, key=lambda lane: (lane.view.running + len(lane.landed), lane.index))
        lane.landed.append(request)
        self.poke()

    def hand_over(self, request: LiveRequest, now: float) -> None:
        """A request has emitted its first token here and decodes elsewhere."""
        assert self.handover is not None
        self.handover.prefilled(self, request, now)

    def ended(self, requests: list[LiveRequest], now: float) -> None:
        """Requests have left the instance for good."""
        self.outstanding -= len(requests)
        self._tell_ended(requests, now)

    def others_work(self, lane: Lane) -> bool:
        """Whether another lane has requests (whose steps will free memory)."""
        if self.elsewhere or self.handover is not None:
            return True
        others = (other for other in self.lanes if other is not lane)
        return self._pipelined and any(other.group.members or other.prefilling or other.swapped for other in others)

    def after_step(self, lane: Lane, now: float) -> None:
        """A lane's step is over and its tokens are out: the next step."""
        self.pull()
        if self._pipelined:
            lane.busy = False
            if self._yielding:
                self._yielding.clear()
                self._next_lane = lane.index
            self._dispatch(now)
        else:
            if self.inbox:
                self._take_in()
            lane.start(now)

    def _wake(self, event: Event) -> None:
        self._wake_event = None
        now = self.clock.now
        lane = self.lanes[0]
        if self._pipelined:
            self._dispatch(now)
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
        if self.handover is not None and self.spec.role == "decode":
            self.handover.pull(self)

    def _take_in(self) -> None:
        """Moves newcomers to the waiting queue, in order of (time, row)."""
        inbox = self.inbox
        if len(inbox) > 1:
            inbox.sort(key=lambda r: (r.arrival_s, r.row))
        for request in inbox:
            self.waiting.push(request)
        inbox.clear()

    def reorder(self) -> None:
        """Brings the waiting queue in order again where the order depends on what is cached now."""
        assert self.prefix is not None
        waiting = self.waiting
        if isinstance(waiting, SortedQueue) and len(waiting) <= MOST_REORDERED:
            for request in list(waiting):
                waiting.remove(request)
                request.cached_estimate = self.prefix.match(request) * self.prefix.tokens_per_id
                waiting.push(request)

    # -- pipeline parallelism --------------------------------------------------------------------------------------------------------

    def _dispatch(self, now: float) -> None:
        """Starts steps of idle lanes, in turn, as long as the first stage is free. Each stage works on one micro-batch at a time."""
        free = self._stage_free_s
        lanes = self.lanes
        self._take_in()
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
            times = lane.stage_times(plan)
            end = now
            for stage, stage_s in enumerate(times):
                end = max(end, free[stage]) + stage_s
                free[stage] = end
            lane.start_at(now, end)
            self.clock.at(free[0], self._first_stage_free)

    def _first_stage_free(self, event: Event) -> None:
        self._dispatch(self.clock.now)
