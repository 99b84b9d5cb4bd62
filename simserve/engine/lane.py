"""A lane plans steps of its batch, lets their time pass and hands out the tokens.

An instance has one lane, or one per pipeline stage (then each has a micro-batch; the lanes share the waiting queue and the KV cache).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from simserve.contracts import VERIFY
from simserve.engine import chunk_span
from simserve.engine.batch import Batch, not_priced
from simserve.engine.clock import Event
from simserve.engine.events import STEP_ENDS
from simserve.engine.plan import StepPlan
from simserve.engine.readonly import ReadOnlyError, blame
from simserve.engine.records import Span, span_bytes
from simserve.engine.request import LiveRequest, State
from simserve.engine.view import InstanceView
from simserve.errors import InvariantError, PolicyError

if TYPE_CHECKING:
    from simserve.engine.instance import Instance
    from simserve.engine.runner import Runner

_PREFILLING = State.PREFILLING  # read in a third of the time of an enumeration's attributes

FIRST_CHUNK_STEPS = 16
LONGEST_CHUNK_STEPS = 4096


class Lane:
    """A batch and the step or span of steps in progress.

    number      of this lane among all lanes of the run
    held        what had happened in its pipeline when the policy made the plan that it holds (`Pipeline`), -1 = it holds none
    held_steps  steps that may still follow by that plan
    """

    __slots__ = (
        "_chunk",
        "_end_event",
        "_ends",
        "_fast",
        "_newcomers",
        "_queue",
        "_span_first",
        "_stages",
        "agenda",
        "batch",
        "boundary",
        "busy",
        "clock",
        "cost",
        "group",
        "held",
        "held_steps",
        "index",
        "index_of_instance",
        "instance",
        "intake",
        "jitter",
        "kv",
        "layered",
        "log",
        "number",
        "plan",
        "policy_name",
        "priority",
        "runner",
        "scheduler",
        "signals",
        "step_end_s",
        "steps_dropped",
        "verified",
        "verified_ticks",
        "view",
    )

    def __init__(self, instance: Instance, runner: Runner, index: int) -> None:
        self.instance = instance
        self.runner = runner
        self.index = index
        self.index_of_instance = instance.index
        self.number = instance.lane_offset + index
        self.priority = STEP_ENDS + self.number
        self.batch = batch = Batch(instance, runner, self.number)
        spec = instance.spec
        self.view = InstanceView(batch, instance.intake.waiting, spec.max_seqs, spec.max_model_len, instance.limit_tokens)
        self.clock = instance.clock
        self.agenda = instance.clock.agenda
        self.cost = instance.cost
        self._stages = instance.cost.stages
        self.jitter = None if spec.jitter is None else spec.jitter.of_lane(self.number)
        self.intake = instance.intake
        self._queue = batch.queue
        self.kv = instance.kv
        self.group = self.batch.group
        self.policy_name = instance.policy_name
        self.scheduler = instance.scheduler
        self.signals = instance.signals
        self.boundary: list[Callable[[float], None]] = []
        """What waits for the end of the step in progress."""
        self.step_end_s = array("d")
        self.steps_dropped = 0
        """Steps before the first in `step_end_s` (`pieces.py`)."""
        self.log = array("d")
        self.verified_ticks = array("q")
        """Drafted, accepted, attended tokens and pairs of each step in which requests of a lane that speculates decoded."""
        self.layered = array("q")
        """Span, layer group and groups of each step whose chunks passed through a part of the layers (LaneLog.layered)."""
        self.verified = array("q")
        """Span, requests, tokens and pairs of each step that verified drafted tokens (LaneLog.verified)."""
        self.busy = False
        self._fast = instance.fast_forward
        self._chunk = FIRST_CHUNK_STEPS
        self.held = -1
        self.held_steps = 0
        self._end_event: Event | None = None
        self._ends = self._on_end  # one bound method for all events
        self._span_first = 0
        self._newcomers: list[int] = []
        """Of a span with chunks: for each request that has come meanwhile the first step, counted from the span's, planned after that."""
        self.plan = StepPlan(self.view, batch)

    # -- the step ------------------------------------------------------------------------------------------------------------------

    def has_work(self) -> bool:
        """Whether a request waits for or runs in this lane."""
        return bool(len(self.batch) or len(self.intake.waiting))

    def plan_step(self, now: float) -> StepPlan | None:
        """Asks the policy for the step that starts now. None when there is nothing to do."""
        batch, intake = self.batch, self.intake
        batch.now = now
        self.plan.asked = True
        if intake.reorders:
            intake.reorder()
        if batch.landed:
            batch.place_landed()
        try:
            said = self.scheduler.plan(self.view)
        except ReadOnlyError as problem:
            blame(f"policy '{self.policy_name}'", problem)
        kv, plan = self.kv, self.plan
        if kv._free + kv._used != kv.total_blocks:  # kv.adds_up(), without a call in every step
            raise PolicyError(f"policy '{self.policy_name}' has written counts of KV blocks, which are the engine's (invariant I10)")
        if batch.stalled:
            batch.go_on()
        signals, index, waiting = self.signals, self.index_of_instance, len(self._queue)
        if signals.rankings and (waiting or signals.waiting[index] or plan.preempted):
            signals.ease(index)
        signals.waiting[index] = waiting + len(intake.unseen) + len(intake.inbox)  # len(intake), without a call in every step
        if said is not plan:
            raise PolicyError(
                f"policy '{self.policy_name}' returned {said!r} instead of the plan it got from view.new_plan() (invariant I10)"
            )
        if plan.asked:
            raise PolicyError(f"policy '{self.policy_name}' returned the plan of an earlier step (invariant I10)")
        if plan.repeat != 1 and (plan.preempted or plan.swap_times_s or plan.repeat < 1 or (plan.slices and not plan.with_chunks)):
            raise PolicyError(
                f"policy '{self.policy_name}' repeats {plan.repeat} times a step with prefills, preemptions or swaps: only steps that do "
                "nothing but decode can be the same again (invariant I10)"
            )
        if batch.lingering:
            batch.release_lingering()
            if not plan.decodes and not plan.slices:  # nothing was in progress when it was made: all is known
                intake.see_all()
                self.instance.pull()
                return self.plan_step(now)
            # What they gave up is for others from the next step on, and who does not decode may go on in it.
            if waiting or batch.landed or len(batch) > len(self.group) or self.instance.kv_transfers is not None:
                plan.repeat = 1
        if not plan.decodes and not plan.slices:
            if plan.loads:
                return self.plan_step(now)
            # What has been preempted leaves room: requests that wait for a slot or memory are asked again before the policy is blamed.
            if plan.until_s is not None and self.has_work():
                self.runner.ask_again(plan.until_s)
            elif self.has_work() and not plan.preempted and not self.instance.others_work(self):
                if intake.give_up_memory():  # those that have been loaded wait for each other's
                    return self.plan_step(now)
                if self.instance.kv_transfers is not None:  # requests that are elsewhere may come
                    return None
                raise PolicyError(
                    f"policy '{self.policy_name}' plans no work at {now} s with {waiting} waiting, {len(batch.prefilling)} prefilling, "
                    f"{len(self.group)} decoding, {len(batch.swapped)} swapped requests: no progress is possible (invariant I5)"
                )
            return None
        plan.waiting = waiting
        if kv.radix is not None:
            idle_blocks = kv.radix.idle_blocks
            kv.settle(plan.slices, plan.decodes, self.group.blocks_needed() if plan.decodes else 0)
            if waiting and kv.radix.idle_blocks != idle_blocks:  # who waits would find less than the policy has seen
                plan.repeat = 1
        plan.seal()
        return plan

    def start(self, now: float) -> None:
        """Plans and starts the next step (or span of steps); idles when there is nothing to do. Single-stage instances only."""
        self.busy = False
        plan = self.plan_step(now)
        if plan is None and self.intake.unseen:
            self.intake.see_all()
            plan = self.plan_step(now)
        while plan is None and self.plan.preempted:  # what it has freed is for requests on their way here, then for those that wait here
            self.instance.pull()
            plan = self.plan_step(now)
        if plan is None:
            self.instance.pull()
            return
        self.busy = True
        group = self.group
        ends = self.step_end_s
        self._span_first = len(ends)
        plan.start_s = now
        steps = 1
        if plan.repeat > 1 and self._fast:
            steps = group.steps_to_next_change()
            if steps > self._chunk:  # min() would take longer than all of this
                steps = self._chunk
            if plan.repeat < steps:
                steps = plan.repeat
            if self.intake.unseen:
                steps = min(steps, self.intake.unseen[0][1])
            if plan.with_chunks and steps > 1:
                steps = chunk_span.steps_alike(plan, self.kv.block_tokens, steps)
            if steps > 1:
                steps = self._steps_with_memory(plan, steps)
        if steps > 1 and plan.with_chunks:
            end = self._price_chunks(plan, steps, now)
        elif steps > 1:
            speculating = self.batch.speculating
            if speculating is None:
                times = self.cost.decode_times(plan, steps)
            else:
                times = self.cost.verify_times(speculating.steps_ahead(steps))
            if self.jitter is not None:
                times = self.jitter.several(times, self.steps_dropped + self._span_first, plan.decodes)
            if isinstance(times, list):
                times[0] += now
                ends.extend(accumulate(times))
            else:  # adds one after the other, as accumulate does: the same numbers
                if times.dtype.char != "d":
                    times = np.asarray(times, dtype=np.float64)
                times[0] += now
                ends.frombytes(np.add.accumulate(times).tobytes())
            if len(ends) - self._span_first != steps:
                not_priced(self.cost, f"gives {len(ends) - self._span_first} times for {steps} steps")
            if plan.until_s is not None and ends[-2] >= plan.until_s:
                del ends[bisect_left(ends, plan.until_s, self._span_first) + 1 :]
            end = ends[-1]
        else:
            end = self.cost.step_time(plan)
            if self.jitter is not None:
                end = self.jitter.one(end, self.steps_dropped + self._span_first, plan.decodes)
            if plan.swap_times_s:
                for swap_s in plan.swap_times_s:
                    end = end + swap_s
            end = end + now
            ends.append(end)
        if not now < end < inf:
            not_priced(
                self.cost, f"says that {steps} step{'s' * (steps > 1)} from {now!r} s on end at {end!r} s; times must be finite and above 0"
            )
        self._end_event = self.agenda.at(end, self._ends, self.priority)

    def _price_chunks(self, plan: StepPlan, steps: int, now: float) -> float:
        """Adds the ends of steps with chunks, until the policy's time has come. Returns the last, seconds."""
        ends, until_s = self.step_end_s, plan.until_s
        for number in range(steps):
            seconds = self.cost.step_time(plan.after(number) if number else plan)
            if self.jitter is not None:
                seconds = self.jitter.one(seconds, self.steps_dropped + len(ends), plan.decodes)
            end = seconds + now
            if not now < end < inf:
                not_priced(self.cost, f"says that a step from {now!r} s on ends at {end!r} s; times must be finite and above 0")
            ends.append(end)
            now = end
            if until_s is not None and now >= until_s:
                break
        return now

    def _steps_with_memory(self, plan: StepPlan, steps: int) -> int:
        """Of so many steps by the plan in hand, those for which there is memory, and in which a group that speculates does the same."""
        speculating, kv = self.batch.speculating, self.kv
        # Forgetting contents may change what waiting requests need; what is freed later in the span does not bring them back.
        frees = speculating is not None and speculating.frees
        room = kv._free if kv.prefix is None or not (plan.waiting or frees) else kv.spare_beside(plan.decodes)
        steps = self.group.steps_within(room, steps) if room >= 0 else 1
        if steps > 1 and speculating is not None:
            others = bool(plan.waiting or self.batch.prefilling or self.batch.swapped)
            steps = speculating.steps_alike(plan.decode_budget, others, steps)
        return steps

    def stage_times(self, plan: StepPlan) -> tuple[float, ...]:
        """Seconds of the planned step on each pipeline stage; the host's jitter and swaps hold up the first."""
        times = self.cost.stage_times(plan)
        if len(times) != self._stages:
            not_priced(self.cost, f"gives {len(times)} stage times for {self._stages} pipeline stages")
        if not 0 < sum(times) < inf or min(times) < 0:
            not_priced(self.cost, f"says that a step takes {tuple(times)!r} s; times must be finite and above 0")
        if not plan.swap_times_s and self.jitter is None:
            return tuple(times)
        first, *rest = times
        if self.jitter is not None:
            first = self.jitter.one(first, self.steps_dropped + len(self.step_end_s), plan.decodes)
        for swap_s in plan.swap_times_s:
            first += swap_s
        return (first, *rest)

    def goes_on(self, now: float) -> bool:
        """Makes the plan that the lane holds once more; False, and nothing changes, when the policy is to be asked."""
        if self.held_steps < 1:
            return False
        need = self.group.blocks_needed()
        if need and not self.kv.take(need):
            return False
        self.held_steps -= 1
        self.batch.now = now
        self.plan.seal()
        return True

    def start_at(self, now: float, end: float) -> None:
        """Starts the planned step, which leaves the last pipeline stage at `end`."""
        self.plan.start_s = now
        self._span_first = len(self.step_end_s)
        self.step_end_s.append(end)
        self.busy = True
        self._end_event = self.clock.at(end, self._ends, self.priority)

    def resume(self, end: float) -> None:
        """The step in progress, which is noted already, leaves the last pipeline stage at `end`."""
        self.busy = True
        self._span_first = len(self.step_end_s) - 1
        self._end_event = self.agenda.at(end, self._ends, self.priority)

    def suspend(self) -> None:
        """Nothing is to happen at the end of the step in progress, until `resume`."""
        self.busy = True
        self._end_event = None

    def arrival(self, now: float, comes: bool = True) -> None:
        """A request has arrived while a span is in progress: end the span with the step in progress, unless the plan said not to care.
        `comes` False: the policy is to be asked again, and nothing has come."""
        if not self.plan.ignores_arrivals or self.instance.spec.steps_ahead:
            self.interrupt(now)
        elif comes and self.plan.with_chunks and self._end_event is not None:  # not by what ends with the step that is handed out
            self._newcomers.append(self._current_step(now) + 1 - self._span_first)

    def interrupt(self, now: float) -> None:
        """Ends the span in progress with the step in progress."""
        ends = self.step_end_s
        if len(ends) - self._span_first <= 1:
            return
        current = self._current_step(now)
        if current + 1 >= len(ends):
            return
        if not self.plan.with_chunks:
            self._chunk = max(FIRST_CHUNK_STEPS, current + 1 - self._span_first)
        del ends[current + 1 :]
        self._end_event = self.agenda.at(ends[current], self._ends, self.priority)

    def settle_chunks(self, now: float) -> None:
        """Hands out the steps with chunks that are over, before memory changes that is not the lane's: each is recorded with what was in
        use at its end."""
        if self._end_event is None or not self.plan.with_chunks:
            return
        first, last = self._span_first, min(self._current_step(now), len(self.step_end_s) - 1)
        if last > first:
            chunk_span.hand_out(self.plan, self.group, self.kv, self.log, self.step_end_s, first, last, self._newcomers)
            for request, (_, computed, _, _, _) in zip(self.plan.sliced, self.plan.slices, strict=True):
                request.computed_tokens = computed
            self._newcomers = [step - last + first for step in self._newcomers if step > last - first]
            self._span_first = last

    def _current_step(self, now: float) -> int:
        """Number of the step in progress; one that ends now is over when it has had its turn."""
        bisect = bisect_right if self.agenda.has_passed(self.priority) else bisect_left
        return bisect(self.step_end_s, now, self._span_first)

    def _on_end(self, event: Event) -> None:
        """The span in progress is over (events of spans that were cut short are stale and do nothing)."""
        if event is self._end_event:
            self._end_event = None
            self.agenda.pass_by(self.priority)
            now = self.step_end_s[-1]
            self.finish(now)
            self.runner.step_ended(self, now)

    def finish(self, now: float) -> None:
        """Hands out the tokens of the steps that have passed."""
        steps = len(self.step_end_s) - self._span_first
        plan, batch, group, kv = self.plan, self.batch, self.group, self.kv
        ended: list[LiveRequest] = []
        freed = 0
        if plan.with_chunks:
            if steps > 1:
                first, last = self._span_first, len(self.step_end_s) - 1
                chunk_span.hand_out(plan, group, kv, self.log, self.step_end_s, first, last, self._newcomers)
                steps = 1
            if self._newcomers:
                self._newcomers.clear()
        decodes, slices = plan.decodes, plan.slices
        if decodes:
            if steps > 1:
                growth = group.growth_over(steps - 1)
                if growth and not kv.take(growth):
                    raise InvariantError(f"invariant I3 is broken: a span of {steps} steps has taken more KV blocks than were free")
                if kv.radix is not None:
                    kv.settle((), decodes, growth - group.growth_over(steps - 2))
                if steps >= self._chunk and self._chunk < LONGEST_CHUNK_STEPS:
                    self._chunk *= 2
            if batch.speculating is None:
                group.tick += steps
            else:
                self.verified_ticks.frombytes(batch.speculating.columns(steps))
                freed = batch.speculating.advance(steps)
            if group._endings and group._endings[0][0] < group.tick:
                ended = group.pop_ended()
        if batch.resting:
            batch.go_on_decoding()
        used_blocks = kv._used  # without a call in every step
        if freed:
            kv.give_back(freed)
        prompts, prefill_tokens, pairs = len(slices), 0, 0
        if prompts or plan.sliced:
            if prompts != len(plan.sliced):
                raise PolicyError(
                    f"policy '{self.policy_name}' or its cost model has written the slices of a step, which are the engine's: "
                    f"{prompts} slices for {len(plan.sliced)} requests (invariant I10)"
                )
            prefix = kv.prefix
            if plan.layers is not None:
                self.layered.extend((len(self.log) // len(Span._fields), *plan.layers))
            for request, (tokens, computed, layers, kind, _) in zip(plan.sliced, slices):  # noqa: B905 (equally long, see above)
                if kind is VERIFY:
                    batch.verified(request, tokens - 1, now, ended)
                    continue
                prefill_tokens += tokens
                pairs += tokens * computed + tokens * (tokens + 1) // 2
                if request.state is not _PREFILLING:  # it has been preempted, and this is void
                    continue
                if layers is not None:
                    passed, groups = layers[0] + 1, layers[1]
                    if passed < groups:
                        request.layer_pass = tokens, passed, groups
                        continue
                    request.layer_pass = None
                request.computed_tokens = computed = computed + tokens
                if prefix is not None and (given_up := prefix.add(request)):
                    kv.give_back(given_up)
                if computed == request.target_tokens:
                    batch.first_token(request, now, ended)
        if ended:
            self._end(ended, now)
        if plan.verified is not None:
            self.verified.extend((len(self.log) // len(Span._fields), *plan.verified))
            prompts -= plan.verified[0]
        self.log.frombytes(
            span_bytes(steps, plan.start_s, decodes, plan.context_tokens, prompts, prefill_tokens, pairs, used_blocks, plan.waiting)
        )
        if self.instance.checked:
            self.instance.listener.span_ended(self)

    def _end(self, ended: list[LiveRequest], now: float) -> None:
        """Requests have their last tokens."""
        in_turn, prefix = ended, self.kv.prefix
        if len(ended) > 1 and prefix is not None and (prefix.when_planned or self.kv.radix is not None):
            in_turn = sorted(ended, key=lambda request: request.admission)  # who frees first is in the queue of free blocks first
        for request in in_turn:
            self.batch.end(request, now)
        self.instance.ended(ended, now)
        if self._stages > 1:
            self.runner.gave_up_kv()

    def blocks_grown(self, now: float) -> int:
        """KV blocks that the group has taken in the steps of the span in progress that are over, beyond those of the first."""
        if not self.busy or not self.plan.decodes or len(self.step_end_s) - self._span_first < 2:
            return 0
        steps = self.steps_done(now)
        return self.group.growth_over(steps) if steps else 0

    def growth_to_come(self) -> int:
        """KV blocks that the group will have taken when the span in progress ends, beyond those of its first step."""
        steps = len(self.step_end_s) - self._span_first
        if steps < 2 or not self.busy or not self.plan.decodes:
            return 0
        return self.group.growth_over(steps - 1)

    def steps_done(self, now: float) -> int:
        """Steps of the span in progress that are over and not yet in the group's tick: none while they are being handed out."""
        if self._stages > 1:
            self.runner.settle()
        if self._end_event is None:
            return 0
        return min(self._current_step(now), len(self.step_end_s) - 1) - self._span_first

    @property
    def steps(self) -> int:
        """Steps of the span in progress, or that has just ended."""
        return len(self.step_end_s) - self._span_first

    @property
    def decodes_now(self) -> int:
        """Requests that decode in the step in progress."""
        return self.plan.decodes

    def stop(self, now: float) -> None:
        """The run is cut at `now`: the steps that have ended by then count, the one in progress does not."""
        self.runner.settle()
        if self.busy:
            ended = bisect_right(self.step_end_s, now, self._span_first)
            del self.step_end_s[ended:]
            self._end_event = None
            if ended > self._span_first:
                self.finish(self.step_end_s[-1])
            self._newcomers.clear()  # they came to a span of which nothing is left
            self.busy = False

    @property
    def steps_over(self) -> int:
        """Of the steps in `step_end_s`, those that are over and have been handed out."""
        return self._span_first if self.busy else len(self.step_end_s)

    def drop_first(self, steps: int) -> None:
        """The first steps, which are over, and the log: they are no longer here."""
        del self.step_end_s[:steps]
        self._span_first = 0
        self.steps_dropped += steps
        self.log, self.verified_ticks, self.layered, self.verified = array("d"), array("q"), array("q"), array("q")

    def crash(self) -> list[LiveRequest]:
        """The instance has died, and its lanes have stopped: takes all requests out."""
        self.boundary.clear()
        return self.batch.crash()
