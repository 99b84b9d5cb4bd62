"""How SGLang fills a prefill batch (sglang/srt/managers/schedule_policy.py, PrefillAdder), and what differs between its versions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from simserve.contracts import InstanceView, Request, StepPlan
from simserve.policies.scheduling.sglang_params import SglangParams
from simserve.policies.scheduling.sglang_state import RETRACT_DECODE_STEPS, BatchState, longest_output


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between versions. Lines are those of schedule_policy.py and schedule_batch.py of the version named.

    filters_first     requests that have ended leave the batch before prompts are looked at (0.5.23, scheduler.py line 3963); before, at the
                      next decode step, and they are counted until then (0.5.14, update_running_batch)
    page_apiece       a page more is set aside for every admission (0.5.14 line 430, _update_prefill_budget)
    caps_chunks       max_prefill_tokens bounds chunked prompts too (0.5.6 line 569; 0.5.14 only where prompts run whole)
    less_generated    what a retracted request has generated is taken off its longest output (0.5.6 line 558)
    chunk_memory      a started prompt's next chunk is cut to the memory that is not spoken for (0.5.6 line 425); where there is none,
                      "all" (0.5.14) has it take a full chunk
    whole_pages       chunks are whole pages (0.5.6 line 607); before, a page less one token is taken off (0.5.1 line 548)
    full_at_once      a prompt that does not fit makes the batch full even where nothing runs (before 0.5.23)
    checks_before     a spent budget is seen before the next prompt is (0.5.23, scheduler.py line 4192)
    retracts_ahead    retraction goes on until those that are left have memory for 20 steps (0.5.1, schedule_batch.py line 1500)
    counts_one_more   see NewTokenRatio (0.5.6)
    refreshes_waiting what those that wait would find in the prefix cache is kept from eviction (0.5.23, schedule_policy.py line 271)
    """

    filters_first: bool = True
    page_apiece: bool = True
    caps_chunks: bool = False
    less_generated: bool = True
    chunk_memory: bool = True
    whole_pages: bool = True
    full_at_once: bool = False
    checks_before: bool = True
    retracts_ahead: bool = False
    counts_one_more: bool = True
    refreshes_waiting: bool = True

    @classmethod
    def of(cls, since: str) -> Self:
        """The rules of a version and those after it, up to the next that differs."""
        older = {"filters_first": False, "full_at_once": True, "checks_before": False, "refreshes_waiting": False}
        if since == "0.5.23":
            return cls()
        if since == "0.5.14":
            return cls(**older)
        older |= {"page_apiece": False, "caps_chunks": True}
        if since == "0.5.6":
            return cls(**older)
        return cls(**older, less_generated=False, chunk_memory=False, whole_pages=False, retracts_ahead=True, counts_one_more=False)

    def margin_blocks(self, running: int, block_tokens: int) -> int:
        """Blocks that must be free beyond the next step's when a retraction ends."""
        return -(-running * RETRACT_DECODE_STEPS // block_tokens) if self.retracts_ahead else 0


class PrefillAdder:
    """One prefill batch in the making: what is left of its tokens and of memory. Quantities are tokens.

    finished  requests of the batch that will decode when it has ended
    """

    def __init__(self, params: SglangParams, rules: Rules, view: InstanceView, plan: StepPlan, ratio: float, state: BatchState) -> None:
        self.params, self.rules, self.view, self.plan, self.state = params, rules, view, plan, state
        self.page, self.ratio = view.kv.block_tokens, ratio
        mixed = len(view.decoding) + state.stale if params.mixed_chunk and view.in_turn else 0
        self.input_left: float = params.max_prefill_tokens - mixed
        self.chunk_left: float = params.chunked_prefill_size - mixed if params.chunked_prefill_size > 0 else math.inf
        self.spoken_for: float = (
            mixed + sum([self._expected(request, ratio) for request in view.decoding]) + sum([left * ratio for left in state.ended])
        )
        self.taken = mixed
        self.finished = 0
        self.added = 0
        self.free = view.kv.free_tokens  # what the prefix cache keeps is evicted where it is needed; memory is taken at the batch's end

    def _expected(self, request: Request, ratio: float) -> float:
        """What a running request is expected to generate yet (line 741)."""
        left = longest_output(request, self.view) - self.view.decoding.generated_tokens(request)
        return min(left, self.params.clip_max_new_tokens) * ratio

    def _clipped(self, request: Request) -> int:
        return min(longest_output(request, self.view), self.params.clip_max_new_tokens)

    def _paged(self, tokens: int) -> int:
        return -(-tokens // self.page) * self.page

    @property
    def total_left(self) -> float:
        """Memory that is not spoken for."""
        return self.free - self.spoken_for

    def fill(self) -> None:
        """The chunk of a started prompt, then newcomers in order, as long as there is room (scheduler.py line 4160)."""
        for request in tuple(self.view.prefilling):
            self._continue(request)
        preempts = self.params.priority_preemption_threshold >= 0
        for request in tuple(self.view.waiting) if preempts else self.view.waiting:
            if self.rules.checks_before and self._spent():
                return
            if self.added >= self.view.max_seqs - len(self.view.decoding) - self.state.stale:
                self.state.full = True
            if self.state.full and not (preempts and self._preempt_for(request)):
                return
            if not self._add(request):
                return

    def _preempt_for(self, request: Request) -> bool:
        """preempt_to_schedule (line 1703): those of the lowest priority, of equals who came last, give way if theirs is low enough."""
        group, needed = self.view.decoding, self._clipped(request) - self.total_left
        victims: list[Request] = []
        for other in sorted(group, key=lambda other: (other.priority, -self.state.came(other))):
            if request.priority - other.priority <= self.params.priority_preemption_threshold:
                break
            victims.append(other)
            needed -= self._expected(other, self.ratio)
            if needed <= 0:
                break
        if not victims or needed > 0:
            return False
        for victim in sorted(victims, key=lambda victim: victim.admission):
            self.spoken_for -= self._expected(victim, self.ratio)
            before = self.view.kv.free_tokens
            self.plan.preempt(victim, admits=True)
            self.free += self.view.kv.free_tokens - before
            self.state.comes(victim)
        return True

    def _spent(self) -> bool:
        """Tokens of the batch are used up, and memory is not (budget_state: OTHER)."""
        return not self._no_memory() and (self.input_left <= 0 or self.chunk_left <= 0)

    def _no_memory(self) -> bool:
        return self.total_left <= 0 or self.free - self.taken <= 0

    def _continue(self, request: Request) -> None:
        """add_chunked_req (line 1070)."""
        limit = self.chunk_left
        if self.rules.chunk_memory:
            free = int(self.total_left)
            if min(limit, free) > 0:
                limit = min(limit, free)
        tokens = int(min(request.prefill_left, limit))
        if tokens <= 0:
            return
        last = tokens == request.prefill_left
        if not self.plan.grow(request, request.computed_tokens + tokens):
            return
        self.plan.prefill(request, tokens)
        self._charge(tokens, self._clipped(request) if last else 0)
        self.finished += last

    def _charge(self, tokens: int, output: int) -> None:
        """_update_prefill_budget (line 897)."""
        tokens = self._paged(tokens)
        page = self.page if self.rules.page_apiece else 0
        self.spoken_for += tokens + page + output
        self.taken += tokens + page
        self.input_left -= tokens
        self.chunk_left -= tokens
        self.added += 1

    def _add(self, request: Request) -> bool:
        """add_one_req (line 1314); whether the next prompt is looked at too."""
        params, rules = self.params, self.rules
        if params.prefill_max_requests and self.added >= params.prefill_max_requests:
            return False
        cached = self.plan.cached_tokens(request)
        tokens = request.target_tokens - cached
        output = longest_output(request, self.view)
        if rules.less_generated:
            output = max(0, output - request.generated_tokens)
        whole = tokens + min(output, params.clip_max_new_tokens) + (self.page if rules.page_apiece else 0)
        locked = self.view.kv.idle_blocks(request) * self.page  # of its prefix, what others do not use
        alone = not self.added and not self.view.running  # it has all there is, whatever it is expected to generate
        if whole >= self.total_left - locked and not alone:
            return self._out_of_memory()
        paged = self._paged(tokens)
        if self.added and paged >= self.input_left and (rules.caps_chunks or self.chunk_left == math.inf):
            return False
        last = paged <= self.chunk_left
        if not last:
            tokens = min(tokens, self._cut(cached))
            if tokens <= 0:
                return False
            last = cached + tokens == request.target_tokens
        # On pipeline stages the batches of others grow meanwhile, and a batch that only decodes may not be taken from by this one: two
        # prompts that are under way could wait for each other's memory. There a prompt has all of its own from the start.
        reserved = cached + tokens if self.view.stages == 1 else request.target_tokens
        if not self.plan.admit(request, reserve_tokens=reserved, room_tokens=request.target_tokens):
            return self._out_of_memory()
        self.free -= locked
        self.plan.prefill(request, tokens)
        self._charge(tokens, self._clipped(request) if last else 0)
        self.finished += last
        if self._no_memory():
            return self._out_of_memory()
        return not self._spent()

    def _cut(self, cached: int) -> int:
        """Tokens of a chunk that ends this batch."""
        left = int(self.chunk_left)
        if self.params.chunked_prefill_size < self.page:  # SGLang's server does not start so
            return left
        if not self.rules.whole_pages:
            return left - self.page + 1
        return (cached + left // self.page * self.page) // self.page * self.page - cached

    def _out_of_memory(self) -> bool:
        self.state.full = self.rules.full_at_once or self.added > 0 or len(self.view.decoding) > 0
        return False
