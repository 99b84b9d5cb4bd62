"""One batch in flight: plans a step, lets its time pass, hands out the tokens.

An instance has one lane, or one per pipeline stage (then each lane is a micro-batch; the lanes share the waiting queue and the KV cache).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from simpy.events import Event

from simserve.engine.clock import STEP
from simserve.engine.decode_group import DecodeGroup
from simserve.engine.plan import InstanceView, StepPlan
from simserve.engine.request import LiveRequest, State
from simserve.errors import PolicyError

if TYPE_CHECKING:
    from simserve.engine.instance import Instance

LOG_FIELDS = 9
"""Numbers per span in Lane.log, in the order of LaneLog's span columns, without span_first_step, which follows from the steps."""

FIRST_CHUNK_STEPS = 16
LONGEST_CHUNK_STEPS = 4096


class Lane:
    """The running requests of one micro-batch and the step or span in progress."""

    def __init__(self, instance: Instance, index: int) -> None:
        self.instance = instance
        self.index = index
        self.clock = instance.clock
        self.priority = STEP + instance.lane_offset + index
        self.policy_name = instance.policy_name
        self.scheduler = instance.scheduler
        self.cost = instance.cost
        self.kv = instance.kv
        self.prefix = instance.prefix
        self.signals = instance.signals
        self.reorders = instance.reorders
        self.prefilling: list[LiveRequest] = []
        self.swapped: list[LiveRequest] = []
        self.landed: list[LiveRequest] = []
        """Requests that have come from another instance with their KV and wait for a seat."""
        self.group = DecodeGroup(instance.kv.block_tokens)
        self.boundary: list[Callable[[float], None]] = []
        """What waits for the end of the step in progress."""
        self.view = InstanceView(
            self, instance.waiting, instance.kv, instance.spec.max_seqs, instance.spec.max_model_len, instance.limit_tokens
        )
        self.step_end_s = array("d")
        self.log = array("d")
        self.layered = array("q")
        """Span, layer group and groups of each step whose chunks passed through a part of the layers (LaneLog.layered)."""
        self.busy = False
        self._fast = instance.fast_forward
        self._chunk = FIRST_CHUNK_STEPS
        self._end_event: Event | None = None
        self._span_first = 0
        self._span_start_s = 0.0
        self._span_waiting = 0
        self._plan: StepPlan = self.view.plan
        self._context = 0

    # -- the step ------------------------------------------------------------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether a request waits for or runs in this lane."""
        return bool(self.prefilling or self.group.members or self.swapped or self.landed or len(self.view.waiting))

    def plan_step(self, now: float) -> StepPlan | None:
        """Asks the policy for the step that starts now. None when there is nothing to do."""
        view = self.view
        view.now = now
        self._plan.asked = True
        if self.reorders:
            self.instance.reorder()
        if self.landed:
            self._seat_landed()
        plan = self.scheduler.plan(view)
        self.signals.waiting[self.instance.index] = len(view.waiting)
        if plan is not self._plan:
            raise PolicyError(
                f"policy '{self.policy_name}' returned {plan!r} instead of the plan it got from view.new_plan() (invariant I10)"
            )
        if plan.asked:
            raise PolicyError(f"policy '{self.policy_name}' returned the plan of an earlier step (invariant I10)")
        if plan.repeat != 1 and (plan.prefills or plan.preempted or plan.swap_times_s or plan.repeat < 1):
            raise PolicyError(
                f"policy '{self.policy_name}' repeats {plan.repeat} times a step with prefills, preemptions or swaps: only steps that do "
                "nothing but decode can be the same again (invariant I10)"
            )
        if not plan.decodes and not plan.prefills:
            if self.has_work() and not self.instance.others_work(self):
                raise PolicyError(
                    f"policy '{self.policy_name}' plans no work at {now} s with {len(view.waiting)} waiting, "
                    f"{len(self.prefilling)} prefilling, "
                    f"{len(self.group)} decoding, {len(self.swapped)} swapped requests: no progress is possible (invariant I5)"
                )
            return None
        self._span_waiting = len(view.waiting)
        return plan

    def start(self, now: float) -> None:
        """Plans and starts the next step (or span of steps); idles when there is nothing to do. Single-stage instances only."""
        self.busy = False
        plan = self.plan_step(now)
        if plan is None:
            self.instance.pull()
            return
        self.busy = True
        group = self.group
        decodes = plan.decodes
        if decodes:
            self._context = context = group.context_tokens()
            longest = group.longest_tokens()
        else:
            self._context = context = longest = 0
        ends = self.step_end_s
        self._span_first = len(ends)
        self._span_start_s = now
        if plan.repeat > 1 and self._fast:
            steps = min(plan.repeat, group.steps_to_next_change(), self._chunk)
            if steps > 1:
                room = self.kv.free_blocks
                if self.prefix is not None and self._span_waiting:
                    room = self.prefix.spare_blocks  # forgetting contents may change what those who wait need
                steps = group.steps_within(room, steps)
        else:
            steps = 1
        if steps > 1:
            times = self.cost.decode_times(decodes, context, longest, steps)
            times[0] += now
            if isinstance(times, list):
                ends.extend(accumulate(times))
            else:  # adds one after the other, as accumulate does: the same numbers
                ends.frombytes(np.add.accumulate(times).tobytes())
            end = ends[-1]
        else:
            end = self.cost.step_time(decodes, context, longest, plan.prefills)
            for swap_s in plan.swap_times_s:
                end += swap_s
            end += now
            ends.append(end)
        self._end_event = self.clock.at(end, self._on_end, self.priority)

    def stage_times(self, plan: StepPlan) -> tuple[float, ...]:
        """Seconds of the planned step on each pipeline stage; swaps hold up the first."""
        group = self.group
        context = group.context_tokens() if plan.decodes else 0
        longest = group.longest_tokens() if plan.decodes else 0
        self._context = context
        first, *rest = self.cost.stage_times(plan.decodes, context, longest, plan.prefills)
        for swap_s in plan.swap_times_s:
            first += swap_s
        return (first, *rest)

    def start_at(self, now: float, end: float) -> None:
        """Starts the planned step, which leaves the last pipeline stage at `end`."""
        self.busy = True
        self._span_first = len(self.step_end_s)
        self._span_start_s = now
        self.step_end_s.append(end)
        self._end_event = self.clock.at(end, self._on_end, self.priority)

    def arrival(self, now: float) -> None:
        """A request has arrived while a span is in progress: end the span with the step in progress, unless the plan said not to care."""
        if not self._plan.ignores_arrivals:
            self.interrupt(now)

    def interrupt(self, now: float) -> None:
        """Ends the span in progress with the step in progress."""
        ends = self.step_end_s
        if len(ends) - self._span_first <= 1:
            return
        current = self._current_step(now)
        if current + 1 >= len(ends):
            return
        self._chunk = max(FIRST_CHUNK_STEPS, current + 1 - self._span_first)
        del ends[current + 1 :]
        self._end_event = self.clock.at(ends[current], self._on_end, self.priority)

    def _current_step(self, now: float) -> int:
        """Number of the step in progress; one that ends now is over when it has had its turn."""
        bisect = bisect_right if self.clock.has_passed(self.priority) else bisect_left
        return bisect(self.step_end_s, now, self._span_first)

    def _on_end(self, event: Event) -> None:
        """The span in progress is over (events of spans that were cut short are stale and do nothing)."""
        if event is self._end_event:
            self.clock.pass_by(self.priority)
            now = self.step_end_s[-1]
            self.finish(now)
            self.instance.after_step(self, now)

    def finish(self, now: float) -> None:
        """Hands out the tokens of the steps that have passed."""
        steps = len(self.step_end_s) - self._span_first
        plan = self._plan
        ended: list[LiveRequest] = []
        used_blocks = self.kv.used_blocks
        decodes = plan.decodes
        if decodes:
            group = self.group
            if steps > 1:
                self.kv.free_blocks -= group.growth_over(steps - 1)
                used_blocks = self.kv.used_blocks
                if self.prefix is not None:
                    self.prefix.trim()
                if steps >= self._chunk and self._chunk < LONGEST_CHUNK_STEPS:
                    self._chunk *= 2
            group.tick += steps
            ended = group.pop_ended()
        prefill_tokens = pairs = 0
        if plan.prefills:
            if plan.layers is not None:
                self.layered.extend((len(self.log) // LOG_FIELDS, *plan.layers))
            for request, (tokens, computed, layers) in zip(plan.prefilled, plan.prefills, strict=True):
                prefill_tokens += tokens
                pairs += tokens * computed + tokens * (tokens + 1) // 2
                if layers is not None:
                    passed, groups = layers[0] + 1, layers[1]
                    if passed < groups:
                        request.layer_pass = tokens, passed, groups
                        continue
                    request.layer_pass = None
                request.computed_tokens = computed = computed + tokens
                if self.prefix is not None:
                    self.prefix.add(request)
                if computed == request.target_tokens:
                    self._first_token(request, now, ended)
        if ended:
            for request in ended:
                self._end(request, now)
            self.instance.ended(ended, now)
        self.log.extend(
            (
                steps,
                self._span_start_s,
                decodes,
                self._context,
                len(plan.prefills),
                prefill_tokens,
                pairs,
                used_blocks,
                self._span_waiting,
            )
        )
        if self.instance.audit is not None:
            self.instance.audit(self)

    def blocks_grown(self, now: float) -> int:
        """KV blocks that the group has taken in the steps of the span in progress that are over, beyond those of the first."""
        if not self.busy or not self._plan.decodes or len(self.step_end_s) - self._span_first < 2:
            return 0
        steps = self.steps_done(now)
        return self.group.growth_over(steps) if steps else 0

    def steps_done(self, now: float) -> int:
        """Steps of the span in progress that are over."""
        return min(self._current_step(now), len(self.step_end_s) - 1) - self._span_first

    @property
    def decodes_now(self) -> int:
        """Requests that decode in the step in progress."""
        return self._plan.decodes

    # -- requests ------------------------------------------------------------------------------------------------------------------

    def start_prefill(self, request: LiveRequest, now: float) -> None:
        """An admitted request takes its seat."""
        instance = self.instance
        instance.admissions += 1
        request.admission = instance.admissions
        request.state = State.PREFILLING
        request.planned = -1
        request.layer_pass = None
        request.target_tokens = request.prompt_tokens + request.generated_tokens
        if request.scheduled_s < 0:
            request.scheduled_s = now
        if instance.handover is not None:
            instance.handover.admitted(instance, request)
        self.prefilling.append(request)

    def join_group(self, request: LiveRequest) -> None:
        """From the next tick on the request decodes."""
        final = self.instance.final_tokens[request.row]
        last_computed = request.prompt_tokens + final - 1
        self.group.join(request, final, request.held_blocks * self.kv.block_tokens < last_computed)

    def _first_token(self, request: LiveRequest, now: float, ended: list[LiveRequest]) -> None:
        """A finished prefill emits a token; the request then decodes, or has ended if that was all."""
        self.prefilling.remove(request)
        request.generated_tokens += 1
        request.prefill_end_s = now
        if request.first_token_s < 0:
            request.first_token_s = now
        if request.generated_tokens == self.instance.final_tokens[request.row]:
            request.first_tick = self.group.tick
            ended.append(request)
        elif self._leaves(request):
            request.first_tick = self.group.tick
            self._emitted(request)
        else:
            self.join_group(request)

    def _leaves(self, request: LiveRequest) -> bool:
        """Whether a request whose prefill has ended goes elsewhere to decode. One that had been decoding here and was preempted stays."""
        role = self.instance.spec.role
        return (role == "prefill" or (role == "decode" and request.generated_tokens == 1)) and self.instance.hand_over(request)

    def _seat_landed(self) -> None:
        """Requests from elsewhere take free seats, in order of landing. They hold the block of their next token already."""
        landed = self.landed
        while landed and self.view.free_seats > 0:
            request = landed.pop(0)
            self.instance.admissions += 1
            request.admission = self.instance.admissions
            request.planned = -1
            self.join_group(request)

    def _end(self, request: LiveRequest, now: float) -> None:
        """The request has emitted its last token."""
        self._emitted(request)
        self.give_back(request)
        request.held_blocks = 0
        request.state = State.ENDED
        if self.instance.handover is not None:
            self.instance.handover.ended(request)
        self.instance.recorder.completed(request, self.instance.index, now)

    def _emitted(self, request: LiveRequest) -> None:
        """Notes the tokens since the request joined the group (or finished its prefill)."""
        self.instance.recorder.segment(request, self.instance.lane_offset + self.index, self.group.tick - 1)
        request.prefill_end_s = -1.0

    def stop(self, now: float) -> None:
        """The run is cut at `now`: the steps that have ended by then count, the one in progress does not."""
        if self.busy:
            ended = bisect_right(self.step_end_s, now, self._span_first)
            del self.step_end_s[ended:]
            self._end_event = None
            if ended > self._span_first:
                self.finish(self.step_end_s[-1])

    def crash(self, now: float) -> list[LiveRequest]:
        """The instance dies: takes all requests out. What ended by now counts, the step in progress does not."""
        self.stop(now)
        self.busy = False
        self.boundary.clear()
        lost = [*self.prefilling, *self.swapped, *self.landed]
        for request in list(self.group):
            self.leave_unfinished(request)
            lost.append(request)
        for requests in (self.prefilling, self.swapped, self.landed):
            requests.clear()
        return lost

    def detach(self, request: LiveRequest) -> None:
        """Takes a decoding request out, its KV set aside; between steps only."""
        self.group.leave(request)
        self._emitted(request)
        request.state = State.MOVING
        self.instance.set_aside(request)

    def leave_unfinished(self, request: LiveRequest) -> None:
        """Takes a decoding request out of a run that is cut."""
        self.group.leave(request)
        self._emitted(request)

    def victim(self) -> LiveRequest:
        """The running request that goes first when memory is short."""
        return max([*self.group.members.values(), *self.prefilling], key=self.instance.order.victim_key)

    def preempt(self, request: LiveRequest, swap_times_s: list[float]) -> None:
        """Takes the KV blocks from a running request; see StepPlan.preempt."""
        kv = self.kv
        request.preemptions += 1
        decoding = request.state is State.DECODING
        if self.instance.migrating and request.row in self.instance.migrating:
            self.instance.migrating[request.row].abort("the request was preempted")
        if decoding:
            self.group.leave(request)
            self._emitted(request)
        else:
            self.prefilling.remove(request)
        self.give_back(request)
        if decoding and self.instance.swaps and kv.host_free_blocks >= request.held_blocks:
            kv.host_free_blocks -= request.held_blocks
            request.state = State.SWAPPED
            self.swapped.append(request)
            swap_times_s.append(self.swap_time(request.computed_tokens))
        else:
            request.held_blocks = 0
            request.recomputed_tokens += request.computed_tokens
            request.computed_tokens = 0
            request.target_tokens = request.prompt_tokens + request.generated_tokens
            request.state = State.WAITING
            self.view.waiting.give_back(request)

    def give_back(self, request: LiveRequest) -> None:
        """Frees the KV blocks of a request; contents it shares stay for the others and, while nobody needs the room, for later ones."""
        if self.prefix is None:
            self.kv.free_blocks += request.held_blocks
        else:
            self.kv.free_blocks += self.prefix.private_blocks(request)
            self.prefix.release(request)

    def reject(self, request: LiveRequest, reason: str) -> None:
        """Ends a waiting request without service."""
        request.state = State.ENDED
        self.instance.recorder.rejected(request.row, self.view.now, reason)
        self.instance.ended([request], self.view.now)

    def swap_time(self, tokens: int) -> float:
        """Seconds to copy the KV of `tokens` tokens to or from the host."""
        self.instance.swapped_tokens += tokens
        return self.cost.swap_time(tokens)
