"""SGLang's scheduler: prompts first in batches of their own, cut to the chunked prefill size; decodes run when no prompt can.

Files and lines are those of SGLang 0.5.23 (sglang/srt/managers) where nothing else is said. Where versions differ, the rule is a parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from simserve.contracts import InstanceView, Request, Scheduler, StepPlan
from simserve.policies.scheduling.sglang_adder import PrefillAdder, Rules
from simserve.policies.scheduling.sglang_params import SglangParams
from simserve.policies.scheduling.sglang_state import RETRACT_DECODE_STEPS, BatchState, NewTokenRatio, longest_output, retraction_order

MOST_REFRESHED = 128
WAITING_PREFIX_REFRESH_INTERVAL = 32
"""schedule_policy.py lines 131 and 133."""


class Sglang(Scheduler):
    """A prefill batch goes before decodes (scheduler.py line 3894, get_next_batch_to_run) and takes prompts in order while its tokens, and
    memory for them and for what all are expected to generate, last (schedule_policy.py line 580, PrefillAdder).

    The chunks of a long prompt follow each other without decodes between them, newcomers fill the last one. When a decode step has too
    little memory, those that have generated least are retracted: they wait behind all others, and what a request is expected to
    generate (`new_token_ratio`) is estimated anew; with every decode step it falls. On pipeline stages retraction is the
    engine's default, and a prompt has memory for all of it from the start.
    """

    class Params(SglangParams):
        pass

    oracle = False
    hears_ends = True
    asked_each_step = True  # one ratio for all micro-batches, which falls with each step of any of them
    requeues_last = True

    def __init__(self, params: Params) -> None:
        self.params = params
        self.rules = Rules.of(params.rules)
        self.ratio = NewTokenRatio(params.schedule_conservativeness, self.rules.counts_one_more)
        self._states: dict[object, BatchState] = {}
        self._busy_until = 0.0
        self._looks = 0
        self._view: InstanceView | None = None

    def ended(self, requests: Sequence[Request], now: float) -> None:
        """Remembered: a server that is idle afterwards begins with the first ratio again, and older versions count those that have ended
        until the next decode step."""
        if any(request.generated_tokens for request in requests):
            self._busy_until = now
        if self.rules.filters_first or self._view is None or len(self._states) != 1:
            return
        (state,) = self._states.values()
        for request in sorted(requests, key=lambda request: request.admission):
            if request.generated_tokens:
                left = longest_output(request, self._view) - request.generated_tokens
                state.end(request, min(left, self.params.clip_max_new_tokens))

    def plan(self, view: InstanceView) -> StepPlan:
        plan = view.new_plan()
        self._view = view
        state = self._states.setdefault(view.decoding, BatchState())
        group = view.decoding
        self.ratio.decay(state.decayed(group.tick))
        state.busy = bool(view.running)
        if view.now > self._busy_until and not any(one.busy for one in self._states.values()):
            self.ratio.reset()  # scheduler.py line 5322, on_idle
        state.merge(len(group))
        if self._prefill(plan, view, state):
            return plan
        if not view.running and (state.stale or state.full):  # older versions find their batch empty now, and begin anew
            state.filter()
            state.full = False
            self.ratio.reset()
            if self._prefill(plan, view, state):
                return plan
        preempts = self.params.priority_preemption_threshold >= 0
        self._decode(plan, view, state)
        looks = bool(view.waiting) and (preempts or not state.full)  # after this step
        return plan if looks else plan.hold(ignore_arrivals=True if state.full else None)

    def _prefill(self, plan: StepPlan, view: InstanceView, state: BatchState) -> bool:
        """Whether a prefill batch comes next; it is planned then."""
        if not self._may_prefill(view, state):
            return False
        self._refresh(plan, view)
        group = view.decoding
        adder = PrefillAdder(self.params, self.rules, view, plan, self.ratio.now, state)
        adder.fill()
        if not plan.slices:
            return False
        if self.params.mixed_chunk and view.in_turn and len(group):  # the server switches it off with speculation
            self._mix(plan, view)
        state.prefilled(group.tick + bool(plan.decodes), len(group) + adder.finished, emptied=not len(group) or bool(plan.decodes))
        return True

    def _may_prefill(self, view: InstanceView, state: BatchState) -> bool:
        """scheduler.py line 4079, _get_new_batch_prefill_raw, up to the adder."""
        preempts = self.params.priority_preemption_threshold >= 0
        if preempts or (not len(view.decoding) and self.rules.filters_first):
            state.full = False
        if view.prefilling:
            return True
        if state.full or not view.waiting:
            return False
        if view.free_slots - state.stale <= 0 and not preempts:
            state.full = True
            return False
        return True

    def _refresh(self, plan: StepPlan, view: InstanceView) -> None:
        """Every so many looks at the queue, what its first requests would find in the prefix cache counts as used, the head's last
        (schedule_policy.py line 271, _touch_waiting_prefixes)."""
        if not self.rules.refreshes_waiting or not view.waiting or not view.waiting.fcfs:
            return
        if self._looks % WAITING_PREFIX_REFRESH_INTERVAL == 0:
            for request in reversed(list(islice(view.waiting, MOST_REFRESHED))):
                plan.refresh(request)
        self._looks += 1

    def _mix(self, plan: StepPlan, view: InstanceView) -> None:
        """Decodes ride in the prefill batch, all of them or, where memory is short, none (line 4360)."""
        if view.decoding.blocks_needed() <= view.kv.free_blocks:
            plan.decode(view.decoding)

    def _decode(self, plan: StepPlan, view: InstanceView, state: BatchState) -> None:
        """update_running_batch (line 4459): retraction where memory is short."""
        group = view.decoding
        before = len(group) + state.stale
        state.filter()
        retracts = view.stages == 1 and not view.swapped and not plan.decode(group, preempt=False)
        if retracts:
            self._retract(plan, view)
        elif not plan.decodes:
            plan.decode(group)
        if len(group) < before:
            state.full = False
        state.decoding(group.tick, len(group), decays=not retracts)

    def _retract(self, plan: StepPlan, view: InstanceView) -> None:
        """schedule_batch.py line 3451, retract_decode: at least one, until the others' next tokens have memory, drafted ones included; the
        last one stays."""
        group = view.decoding
        order = retraction_order(group)
        while len(order) > 1:
            plan.preempt(order.pop())
            plan.evict(-(-len(order) * RETRACT_DECODE_STEPS // view.kv.block_tokens))  # schedule_batch.py line 2391
            margin = self.rules.margin_blocks(len(order), view.kv.block_tokens)
            if group.blocks_needed() + margin <= view.kv.free_blocks and plan.decode(group, preempt=False):
                break
        if not plan.decodes:
            plan.decode(group)
        limits = [longest_output(request, view) for request in group]
        self.ratio.estimate([group.generated_tokens(request) for request in group], limits)
