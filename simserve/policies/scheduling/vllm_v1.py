"""vLLM V1's scheduler: no phases; each step gives every running request the tokens it is behind, under one budget (vllm/v1/core/sched)."""

from __future__ import annotations

from typing import Any, ClassVar

from simserve.bounds import MOST_REQUESTS, MOST_TOKENS
from simserve.compiled import mypyc_attr
from simserve.contracts import InstanceView, Request, StepPlan
from simserve.policies.scheduling.vllm_v1_params import VllmV1Params

QUEUE_FULL = "the engine's queue is full"


@mypyc_attr(allow_interpreted_subclasses=True, serializable=True)
class VllmV1:
    """Running requests first, then newcomers while budget, sequence slots and memory last; KV blocks are taken chunk by chunk.

    V1 walks its running list in order of admission. The order decides only where memory or the budget is short for all of them: then the
    walk is done here (`_in_turn`), else the decoding requests are planned as a group, and started prompts after them.

    Lines are those of vllm/v1/core/sched/scheduler.py.
    """

    Params: ClassVar[Any] = VllmV1Params

    oracle: ClassVar[bool] = False

    def __init__(self, params: VllmV1Params) -> None:
        self.params = params
        self._budget, self._chunked = params.max_num_batched_tokens, params.chunked
        self._threshold = params.long_prefill_token_threshold
        self._rule_varies = self._threshold > 0 and (not params.threshold_alone or params.adaptive_threshold)
        self._longest_chunk = self._threshold or MOST_TOKENS
        self._limits = QueueLimits(params.max_queued, params.max_queued_tokens) if params.max_queued or params.max_queued_tokens else None
        held = params.prefill_schedule_interval > 1 and params.interval_alone
        self._passed = 0  # prompts that the last plan has passed over
        self._cadence = Cadence(params.prefill_schedule_interval) if held else None

    def plan(self, view: InstanceView) -> StepPlan:
        budget = self._budget if self._chunked else self.params.step_tokens(view.max_model_tokens)
        plan = view.new_plan(budget=budget)
        if self._limits is not None:
            self._limits.refuse(plan, view)
        if self._rule_varies:
            self._longest_chunk = self._longest_chunk_now(view, budget)
        prompts = self._cadence is None or not self._cadence.holds(len(view.decoding) > 0)
        self._passed = 0
        as_group = self._run(plan, view, budget, prompts)
        carries = len(plan.slices) > 0
        if view.waiting:
            carries = self._admit(plan, view, prompts) or carries
        if self._cadence is not None:
            self._cadence.planned(plan, carries, prompts, len(view.waiting) > 0)
            return plan
        if not as_group or self._passed > 1:
            return plan
        return plan.hold(ignore_arrivals=None if self._limits is None and not self._passed else False)

    def _run(self, plan: StepPlan, view: InstanceView, budget: int, prompts: bool) -> bool:
        """The running requests. Returns whether they were planned as a group; then the plan may hold."""
        if view.ending and view.in_turn and any(self._overruns(request, view) for request in view.ending):
            self._in_turn(plan, view, prompts)
            return False
        if not view.in_turn:
            plan.decode(view.decoding)
            if prompts:
                self._continue(plan, view)
        elif view.prefilling:
            if view.swapped or not prompts or not self._all_fit(view, budget):
                self._in_turn(plan, view, prompts)
                return False
            plan.decode(view.decoding)
            self._continue(plan, view)
        elif not plan.decode(view.decoding, preempt=False):
            self._in_turn(plan, view, prompts)
            return False
        return True

    # -- chunks --------------------------------------------------------------------------------------------------------------------

    def _longest_chunk_now(self, view: InstanceView, budget: int) -> int:
        eligible = view.running + len(view.waiting)
        if eligible < 2 and not self.params.threshold_alone:
            return MOST_TOKENS
        fair = budget // max(1, eligible) if self.params.adaptive_threshold else 0
        return max(self._threshold, fair)

    def _chunk(self, tokens: int, left: int) -> int:
        if not self._chunked:  # a prompt that does not fit ends the step's admissions
            return tokens if tokens <= left else 0
        return min(tokens, self._longest_chunk, left)

    # -- running requests ----------------------------------------------------------------------------------------------------------

    def _all_fit(self, view: InstanceView, budget: int) -> bool:
        """Whether budget and memory are enough for all running requests, so that their order does not matter. Without a threshold the
        last prompt has used up the budget of its step, so it is the last of the list: it gets what is left."""
        left, prompts = budget - view.decoding.next_tokens(), view.prefilling
        one = len(prompts) == 1 and not self._threshold
        blocks, kv = view.decoding.blocks_needed(), view.kv
        for request in prompts:
            chunk = self._chunk(request.prefill_left, left) if one else min(request.prefill_left, self._longest_chunk)
            left -= chunk
            blocks += kv.blocks(request.computed_tokens + chunk) - kv.blocks(request.held_blocks * kv.block_tokens)
        return left >= 0 and blocks <= kv.free_blocks

    def _continue(self, plan: StepPlan, view: InstanceView) -> None:
        """Started prompts, oldest first. When memory is short the youngest of them gives up its blocks."""
        for request in tuple(view.prefilling):
            assert plan.budget_left is not None
            chunk = self._chunk(request.prefill_left, plan.budget_left)
            if chunk <= 0:
                return
            while request.is_prefilling and not plan.grow(request, request.computed_tokens + chunk):
                plan.preempt(view.prefilling[-1])
            if not request.is_prefilling:
                return
            plan.prefill(request, chunk)

    def _in_turn(self, plan: StepPlan, view: InstanceView, prompts: bool) -> None:
        """The walk along the running list, past started prompts if the step is not for `prompts`. Who gets no memory preempts the last in
        the queue discipline's order, perhaps itself."""
        rule, group = self.params.victim_in_step, view.decoding
        running = sorted([*view.prefilling, *group, *view.ending], key=lambda request: request.admission)
        ended = {request.row for request in view.ending}
        assert plan.budget_left is not None
        left, place = plan.budget_left, 0
        given: dict[int, int] = {}
        while place < len(running) and left > 0:
            request = running[place]
            chunk, computed = 1, request.computed_tokens
            if request.is_prefilling:
                chunk = self._chunk(request.prefill_left, left) if prompts else 0
            elif request.row in ended:
                chunk = int(self._overruns(request, view))
            else:
                computed = group.computed_tokens(request)
            if chunk <= 0:
                place += 1
                continue
            while request.row not in given and not plan.grow(request, computed + chunk):
                victim = view.victim
                at, tokens = running.index(victim), given.pop(victim.row, 0)
                del running[at]
                plan.preempt(victim, undo=True, credit_tokens=tokens if rule == "stays" else 0)
                if rule != "stays":
                    left += tokens
                if (rule == "undone" and at < place) or (rule == "leaves" and tokens):
                    place -= 1
                if victim is request:
                    break
            else:
                if request.is_prefilling:
                    plan.prefill(request, chunk)
                elif request.row in ended:
                    plan.overrun(request)
                given[request.row] = chunk
                left -= chunk
                place += 1
                continue
            if rule != "undone":
                break
        for request in running:
            if request.row not in given and not request.is_prefilling and request.row not in ended:
                plan.rest(request)
        plan.decode(group)

    def _overruns(self, request: Request, view: InstanceView) -> bool:
        """Whether a request that has ended is in the step that was planned before: it is when the engine could not know."""
        if self.params.overruns == "unforeseen" and request.generated_tokens >= request.max_output_tokens:
            return False
        longest = view.max_model_tokens if view.max_model_len is None else view.max_model_len
        return request.prompt_tokens + request.generated_tokens < longest

    # -- newcomers -----------------------------------------------------------------------------------------------------------------

    def _admit(self, plan: StepPlan, view: InstanceView, prompts: bool) -> bool:
        """Newcomers in order, to the first that finds no place; if the step is not for `prompts`, to the first with more than a token to
        compute. Returns whether one with more was admitted."""
        most, whole, carries = self.params.max_active_seqs, self.params.reserve_full_prompt, False
        passes, passed = self.params.passes_over and not self._chunked, []
        for request in view.waiting:
            if most and view.running >= most:
                break
            cached, target = plan.cached_tokens(request), request.target_tokens
            assert plan.budget_left is not None
            chunk = self._chunk(target - cached, plan.budget_left)
            if passes and plan.budget_left > 0 and not chunk and not plan.preempted and view.free_slots:
                passed.append(request)
                continue
            if chunk <= 0 or (not prompts and target - cached > 1):
                break
            if not plan.admit(request, reserve_tokens=cached + chunk, room_tokens=target if whole else 0):
                break
            plan.prefill(request, chunk)
            carries = carries or target - cached > 1
        for request in passed:
            plan.to_front(request)
        self._passed = len(passed)
        return carries


@mypyc_attr(serializable=True)
class Cadence:
    """Which steps may carry prompt tokens (lines 772 to 790, 1587, 1616 and 1628).

    behind  the last step that might carry them left requests waiting: then nothing is held back
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._steps, self._last, self._behind = 0, -interval, False

    def holds(self, decodes: bool) -> bool:
        """Whether the coming step may not, where requests decode."""
        return decodes and not self._behind and self._steps + 1 - self._last < self._interval

    def planned(self, plan: StepPlan, carries: bool, might: bool, waiting: bool) -> None:
        """The step is planned: whether it carries prompt tokens, and might, and whether requests wait still."""
        if might and not plan.preempted:
            self._behind = waiting
        if plan.decodes or plan.slices:
            self._steps += 1
            if carries:
                self._last = self._steps


@mypyc_attr(serializable=True)
class QueueLimits:
    """Which newcomers the server takes: it counts those that it has taken and not seen end, at the step that would see the newcomer."""

    def __init__(self, requests: int, tokens: int) -> None:
        self._requests, self._tokens = requests or MOST_REQUESTS + 1, tokens or MOST_TOKENS + 1
        self._waiting: set[int] = set()

    def refuse(self, plan: StepPlan, view: InstanceView) -> None:
        """Refuses newcomers among those that wait."""
        taken: list[Request] = []
        newcomers: list[Request] = []
        for request in view.waiting:
            known = request.row in self._waiting or request.preemptions or request.generated_tokens
            (taken if known else newcomers).append(request)
        requests = view.running - len(view.ending) + len(taken)
        tokens = sum(request.prompt_tokens for request in (*taken, *view.prefilling) if not request.generated_tokens)
        for request in sorted(newcomers, key=lambda request: request.row):
            if requests >= self._requests or tokens >= self._tokens:
                plan.reject(request, QUEUE_FULL)
                continue
            taken.append(request)
            requests += 1
            tokens += request.prompt_tokens
        self._waiting = {request.row for request in taken}
