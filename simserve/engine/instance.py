"""One model replica: its intake, its memory and the runner of its lanes, and how requests and KV come to it and leave it."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from simserve.contracts import Load, capable
from simserve.engine.block_contents import BlockContents
from simserve.engine.clock import Clock
from simserve.engine.front_end import FrontEnd
from simserve.engine.instance_state import InstanceState
from simserve.engine.intake import Intake
from simserve.engine.kv_cache import KvCache
from simserve.engine.lane import Lane
from simserve.engine.link import Link
from simserve.engine.listener import Listener
from simserve.engine.loading import Loads
from simserve.engine.pipeline import Pipeline
from simserve.engine.prefix_cache import Contents, PrefixCache, PrefixIndex
from simserve.engine.radix_contents import RadixContents
from simserve.engine.readonly import ReadOnlyError, blame
from simserve.engine.recorder import Recorder
from simserve.engine.request import LiveRequest, seen_by
from simserve.engine.runner import Runner, SingleLane
from simserve.engine.signals import Signals
from simserve.engine.spec import InstanceSpec, LinkSpec
from simserve.engine.token_prefix import TokenPrefixCache

if TYPE_CHECKING:
    from simserve.engine.kv_transfers import KvTransfers
    from simserve.engine.migration import Migration

_load = tuple.__new__  # half the time of the named tuple's own, and routers ask a few times a request


class Instance:
    """The running form of an InstanceSpec.

    intake   requests that are not admitted
    loads    requests that have memory and wait for a load
    kv       its memory
    runner   when its lanes, each a batch, take steps
    role     "mixed", "prefill" or "decode"; may change while running
    final_tokens[row]  output tokens at which a request ends (hidden from policies), shared by all instances
    signals            the cluster's counters, of which this instance keeps its own up to date
    listener           hears of what happens here
    contents           ids of what requests contain, as keys of prefix caches; None = unknown
    checked            whether the listener hears of every span
    """

    __slots__ = (
        "_hears_ends",
        "_oracle",
        "admissions",
        "checked",
        "clock",
        "cost",
        "fast_forward",
        "final_tokens",
        "front_end",
        "index",
        "intake",
        "kv",
        "kv_transfers",
        "lane_offset",
        "limit_tokens",
        "link",
        "listener",
        "loads",
        "migrating",
        "order",
        "policy_name",
        "postponed",
        "recorder",
        "role",
        "runner",
        "scheduler",
        "signals",
        "spec",
        "state",
        "swapped_tokens",
        "swaps",
        "uplink",
    )

    def __init__(
        self,
        spec: InstanceSpec,
        index: int,
        lane_offset: int,
        clock: Clock,
        recorder: Recorder,
        final_tokens: array[int],
        listener: Listener,
        fast_forward: bool,
        signals: Signals,
        uplink: Link | None = None,
        contents: Contents | None = None,
    ) -> None:
        self.spec = spec
        self.index = index
        self.lane_offset = lane_offset
        self.clock = clock
        self.recorder = recorder
        self.final_tokens = final_tokens
        self.listener = listener
        self.checked = False
        self.fast_forward = fast_forward
        self.scheduler = spec.scheduler
        self.policy_name = spec.policy_name
        self.cost = spec.cost
        self.order = spec.order
        self.role = spec.role
        groups = spec.kv_groups
        prefix: PrefixIndex | None = None
        in_order = spec.eviction != "contents-last" and spec.prefix_match == "block" and groups is None
        finds_own: Callable[[], PrefixIndex] | None = None
        if in_order and spec.prefix_caching:
            tokens = spec.block_tokens if contents is None else contents.block_tokens
            known = contents if contents is not None and contents.outputs and spec.caches_outputs else None
            finds_own = partial(RadixContents, spec.block_tokens, tokens, known)
        if in_order and spec.prefix_caching and spec.eviction != "radix":
            finds_own = partial(BlockContents, spec.kv_blocks, spec.block_tokens, tokens, known, spec.eviction == "empty-first")
        if finds_own is not None and contents is not None:
            prefix, finds_own = finds_own(), None
        elif spec.prefix_caching and contents is not None:
            outputs = contents if contents.outputs and spec.caches_outputs else None
            matching: type[PrefixCache] | type[TokenPrefixCache] = TokenPrefixCache if spec.prefix_match == "token" else PrefixCache
            prefix = matching(spec.block_tokens, contents.block_tokens, outputs, 1 if groups is None else groups.full)
        self.kv = KvCache(spec.kv_blocks, spec.block_tokens, spec.watermark_blocks, spec.host_kv_blocks, prefix, groups)
        self.kv.finds_own = finds_own
        self._oracle = capable(spec.scheduler, "oracle") or capable(self.order, "oracle")
        self._hears_ends = capable(spec.scheduler, "hears_ends")
        self.swaps = spec.preemption == "swap"
        self.limit_tokens = spec.limit_tokens
        self.front_end = FrontEnd(spec)
        self.intake = Intake(spec.order, spec.steps_ahead, self.kv, capable(spec.scheduler, "requeues_last"))
        self.link = Link(clock, spec.link.bytes_per_s, spec.link.latency_s, spec.link.per_message_s) if spec.link is not None else None
        self.uplink = uplink
        self.state = InstanceState.UP if spec.starts else InstanceState.OFF
        self.kv_transfers: KvTransfers | None = None
        """Set on the instances of a disaggregated cluster."""
        self.migrating: dict[int, Migration] = {}
        """Migrations from here to elsewhere, by row of the request."""
        self.admissions = 0
        self.swapped_tokens = 0
        self.postponed = 0
        """Plans of nothing until a later time (`hold(until_s=)`)."""
        self.signals = signals
        self.loads = Loads(self)
        self.runner: Runner = Pipeline(self) if spec.cost.stages > 1 else SingleLane(self)

    # -- requests ------------------------------------------------------------------------------------------------------------------

    def seen(self, request: LiveRequest) -> LiveRequest:
        """A request that is about to enter, as the policies here may see it. Called wherever a request comes from: a router, a copy."""
        return seen_by(request, self._oracle, self.final_tokens[request.row])

    @property
    def lanes(self) -> list[Lane]:
        """One, or one for each pipeline stage."""
        return self.runner.lanes

    @property
    def is_off(self) -> bool:
        """Whether it neither serves nor will by itself."""
        return self.state is InstanceState.OFF

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
        signals, index = self.signals, self.index
        signals.outstanding[index] -= 1
        signals.prompt_tokens[index] -= request.prompt_tokens
        if signals.rankings:
            signals.ease(index)
        if self.state is InstanceState.DRAINING and not self.outstanding:
            self.listener.instance_empty(self)

    def submit(self, request: LiveRequest) -> None:
        """An expected request enters. It is seen by every plan made at this instant or later."""
        self.intake.inbox.append(request)
        self.signals.waiting[self.index] += 1
        self.runner.arrived()

    def land(self, request: LiveRequest) -> None:
        """A request has arrived with its KV (request.held_blocks of this instance): it decodes as soon as a sequence slot is free."""
        lane = min(self.lanes, key=lambda lane: (lane.batch.running + len(lane.batch.landed), lane.index))
        lane.batch.landed.append(request)
        self.runner.poke()

    def transfer_prefilled(self, request: LiveRequest) -> bool:
        """Whether a request that has emitted its first token here decodes elsewhere; it is then on its way."""
        return self.kv_transfers is not None and self.kv_transfers.prefilled(self, request)

    def pull(self) -> None:
        """Fetches requests that have been prefilled elsewhere, as memory allows. Called between steps and when a plan left it idle (such a
        plan may have freed memory)."""
        if self.kv_transfers is not None and self.runner.claim is None:
            self.kv_transfers.pull(self)

    @property
    def pulls(self) -> bool:
        """Whether requests that have been prefilled elsewhere wait for memory here."""
        return self.kv_transfers is not None and self.kv_transfers.waits_for(self.index)

    def ended(self, requests: list[LiveRequest], now: float) -> None:
        """Requests have left the instance for good."""
        for request in requests:
            if self.migrating and request.row in self.migrating:
                self.migrating[request.row].abort("the request ended")
            self.front_end.sent(now, request.generated_tokens)
            self.forget(request)
        if self._hears_ends:
            try:
                self.scheduler.ended(tuple(requests), now)
            except ReadOnlyError as problem:
                blame(f"policy '{self.policy_name}'", problem)
        self.listener.requests_ended(requests, self, now)

    def others_work(self, lane: Lane) -> bool:
        """Whether memory will be freed by others than this lane."""
        return bool(self.kv.elsewhere) or bool(len(self.loads)) or self.runner.others_work(lane)

    def requests(self) -> list[LiveRequest]:
        """All that wait here or are in a lane."""
        return self.intake.requests() + self.loads.requests() + [request for lane in self.lanes for request in lane.batch.requests()]

    def crash(self, now: float) -> list[LiveRequest]:
        """The instance dies: its KV is gone. Returns the requests that were in its queue and lanes, waiting again, in order of their rows;
        tokens of the step in progress were never computed."""
        for lane in self.lanes:
            lane.stop(now)
        lost = self.intake.clear() + self.loads.clear()
        for lane in self.lanes:
            lost += lane.crash()
        self.runner.crash(now)
        self.kv.clear()
        self.signals.waiting[self.index] = 0
        self.signals.ease(self.index)
        for request in lost:
            request.lose_kv()
            self.forget(request)
        return sorted(lost, key=lambda request: request.row)

    # -- KV of requests between instances ------------------------------------------------------------------------------------------

    def path_to(self, other: Instance) -> tuple[Link, LinkSpec]:
        """How KV reaches another instance: inside a node through this instance's link, between nodes through the node's."""
        if self.uplink is not None and self.spec.uplink is not None and other.spec.node != self.spec.node:
            return self.uplink, self.spec.uplink
        assert self.link is not None and self.spec.link is not None
        return self.link, self.spec.link

    def unreserve(self, row: int) -> None:
        """The request will not come."""
        self.runner.settle()
        if self.kv.cancel(row, self.runner.grown_blocks):
            self.signals.ease(self.index)
            self.runner.poke()

    def set_aside(self, request: LiveRequest) -> None:
        """The KV of a request stays here while the request is in no lane."""
        self.kv.set_aside(request)
        self.signals.ease(self.index)

    def take_back(self, request: LiveRequest) -> None:
        """A request whose KV was set aside goes on here."""
        self.kv.take_back(request)
        self.expect(request)
        self.land(request)

    def release_set_aside(self, request: LiveRequest) -> None:
        """The KV of a request that was set aside is not needed any more."""
        self.runner.settle()
        self.kv.release_set_aside(request, self.runner.grown_blocks)
        self.signals.ease(self.index)
        self.runner.poke()

    # -- what routers and controllers see ------------------------------------------------------------------------------------------

    def load(self, exact: bool = True) -> Load:
        """Memory and requests at this moment; not `exact` = the memory as if no step had passed since the last plan."""
        return self._load_after(self.runner.grown_blocks if exact else 0)

    def least_load(self) -> Load:
        """The load at the end of the span in progress, if nothing comes between: no more memory will be free before. With pipeline stages,
        that of this moment."""
        lanes = self.runner.lanes
        return self._load_after(lanes[0].growth_to_come() if len(lanes) == 1 else self.runner.grown_blocks)

    def _load_after(self, grown_blocks: int) -> Load:
        """The load when the lanes have taken so many blocks more than the cache has counted."""
        kv, waiting, head_blocks = self.kv, self.signals.waiting[self.index], 0
        if waiting:
            head_blocks = kv.blocks(self.intake.head.target_tokens)
        running = len(self.loads) if self.spec.loads else 0
        for lane in self.runner.lanes:
            batch = lane.batch
            running += len(batch.prefilling) + len(batch.group.members) + len(batch.verifying)
            if batch.swapped or batch.landed:
                running += len(batch.swapped) + len(batch.landed)
        return _load(Load, (kv._free - grown_blocks, kv.total_blocks, running, waiting, head_blocks))
