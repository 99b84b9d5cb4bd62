"""One batch: the requests that prefill, decode, wait on the host or have come from elsewhere, and how they come and go."""

from __future__ import annotations

from math import inf
from operator import index
from typing import TYPE_CHECKING, Any, NoReturn

from simserve.engine.decode_group import DecodeGroup
from simserve.engine.request import LiveRequest, State
from simserve.engine.speculating_group import SpeculatingGroup
from simserve.errors import ConfigError, PolicyError
from simserve.files.words import clipped

if TYPE_CHECKING:
    from simserve.engine.instance import Instance
    from simserve.engine.runner import Runner

_PREFILLING, _ENDED = State.PREFILLING, State.ENDED  # read in a third of the time of an enumeration's attributes


class Batch:
    """The requests of a lane, in memory that it may share with other lanes. Steps and time are the lane's.

    repeats_chunks  whether spans may carry chunks
    number  of the lane among all lanes of the run
    now     when the plan in hand is made, simulated seconds
    """

    __slots__ = (
        "cost",
        "ends_late",
        "group",
        "grown",
        "instance",
        "kv",
        "landed",
        "lingering",
        "loads",
        "max_seqs",
        "now",
        "number",
        "policy_name",
        "prefilling",
        "queue",
        "reorders",
        "repeats_chunks",
        "resting",
        "runner",
        "speculating",
        "stalled",
        "swapped",
        "verifying",
        "watermark_always",
    )

    def __init__(self, instance: Instance, runner: Runner, number: int) -> None:
        self.instance = instance
        self.runner = runner
        self.number = number
        self.policy_name = instance.policy_name
        self.reorders = instance.intake.reorders
        self.queue: Any = instance.intake.waiting._queue  # the requests that wait
        self.cost = instance.cost
        self.kv = instance.kv
        self.loads = instance.loads
        self.now = 0.0
        self.prefilling: list[LiveRequest] = []
        self.swapped: list[LiveRequest] = []
        self.verifying: list[LiveRequest] = []
        """Decoding requests outside the group: each step gives them tokens of a number of their own."""
        self.landed: list[LiveRequest] = []
        """Requests that have come from another instance with their KV and wait for a sequence slot."""
        self.stalled: list[LiveRequest] = []
        """While a plan is made: started prompts that keep their KV and wait for memory of other lanes (see `stall`)."""
        self.lingering: list[LiveRequest] = []
        """Requests that have ended since the plan before the one in hand, where it does not know (`InstanceSpec.ends_late`)."""
        self.grown: dict[int, int] = {}
        """While a plan is made: blocks of members of the group that have taken those of their next token before it, by row."""
        self.resting: list[LiveRequest] = []
        """Members of the group that sit the step in progress out (among `verifying`)."""
        self.speculating: SpeculatingGroup | None = None
        """The group, where the instance speculates."""
        speculation = instance.spec.speculation
        if speculation is not None:
            self.speculating = SpeculatingGroup(instance.kv.block_tokens, instance.kv.groups, speculation, instance.limit_tokens)
        self.group = DecodeGroup(instance.kv.block_tokens, instance.kv.groups) if self.speculating is None else self.speculating
        self.repeats_chunks = instance.cost.stages == 1 and self.speculating is None and not self.loads
        self.max_seqs = instance.spec.max_seqs
        self.watermark_always = instance.spec.watermark_always
        self.ends_late = instance.spec.ends_late and instance.cost.stages == 1

    def __len__(self) -> int:
        return self.running - len(self.lingering) + len(self.swapped) + len(self.landed)

    @property
    def running(self) -> int:
        """Requests that hold a sequence slot."""
        return len(self.prefilling) + len(self.group.members) + len(self.verifying) + len(self.lingering)

    def start_prefill(self, request: LiveRequest, now: float) -> None:
        """An admitted request takes its sequence slot."""
        instance = self.instance
        instance.admissions += 1
        request.admission = instance.admissions
        request.state = _PREFILLING
        request.planned = -1
        request.layer_pass = None
        request.target_tokens = request.prompt_tokens + request.generated_tokens
        if request.scheduled_s < 0:
            request.scheduled_s = now
        if instance.kv_transfers is not None:
            instance.kv_transfers.admitted(instance, request)
        self.prefilling.append(request)

    def join_group(self, request: LiveRequest) -> None:
        """From the next tick on the request decodes."""
        final = self.instance.final_tokens[request.row]
        last_computed = request.prompt_tokens + final - 1
        if self.kv.groups is not None:
            self.kv.decode(request)
            self.instance.signals.ease(self.instance.index)
        self.group.join(request, final, request.held_blocks * self.kv.block_tokens < last_computed)

    def start_verifying(self, request: LiveRequest, tokens: int) -> bool:
        """A decoding request leaves the group, with memory for so many more tokens; False, and nothing changes, when it is short."""
        if request.state is State.VERIFYING:
            return self.kv.grow(request, request.computed_tokens + tokens)
        if self.instance.migrating and request.row in self.instance.migrating:
            self.instance.migrating[request.row].abort("the request verifies drafted tokens")
        first_tick = request.first_tick
        self.group.leave(request)
        if not self.kv.grow(request, request.computed_tokens + tokens):
            if self.speculating is not None:
                self._emitted(request)
                self.join_group(request)
                return False
            self.join_group(request)
            request.first_tick = first_tick
            return False
        self._emitted(request)
        request.state = State.VERIFYING
        self.verifying.append(request)
        return True

    def rejoin(self, serial: int) -> None:
        """Those that the plan in hand does not verify decode with the group again."""
        for request in [request for request in self.verifying if request.planned != serial]:
            self.verifying.remove(request)
            self.join_group(request)

    def grow_member(self, request: LiveRequest) -> bool:
        """A member of the group takes the blocks of its next token before the group does; False when memory is short."""
        if request.row not in self.grown:
            blocks = self.group.blocks_of(request)
            if not self.kv.take(blocks):
                return False
            self.grown[request.row] = blocks
        return True

    def rest(self, request: LiveRequest, serial: int) -> None:
        """A member of the group sits a step out: meanwhile it is among those that verify, and computes nothing."""
        self.leave_group(request)
        request.state = State.VERIFYING
        request.planned = serial
        self.verifying.append(request)
        self.resting.append(request)

    def go_on_decoding(self) -> None:
        """The step is over: those that sat it out are in the group again."""
        for request in self.resting:
            if request.state is State.VERIFYING:
                self.verifying.remove(request)
                self.join_group(request)
        self.resting.clear()

    def leave_group(self, request: LiveRequest) -> None:
        """A member leaves the group, with the blocks that it has taken for its next token."""
        self.group.leave(request)
        self._emitted(request)
        blocks = self.grown.pop(request.row, None)
        if blocks is not None and self.kv.prefix is not None and not self.ends_late:
            self.kv.prefix.offer(request, request.computed_tokens + 1)
        if blocks:
            request.held_blocks += 1
            if self.kv.groups is not None:
                request.beside_blocks += blocks - self.kv.groups.full

    def verified(self, request: LiveRequest, drafted: int, now: float, ended: list[LiveRequest]) -> None:
        """A step has verified drafted tokens: the request gets one token more than were accepted, or what is left of its output."""
        acceptance: Any = self.instance.spec.accepts
        said = acceptance.accepted(request.row, request.generated_tokens, drafted)
        try:
            accepted = index(said)
        except TypeError:
            accepted = -1
        if not 0 <= accepted <= drafted:
            raise ConfigError(
                f"acceptance: {clipped(str(said))} of {drafted} drafted tokens of request {request.row} are accepted "
                f"('{type(acceptance).__name__}'); it must be a whole number of them"
            )
        left = self.instance.final_tokens[request.row] - request.generated_tokens
        tokens = min(accepted + 1, left)
        request.computed_tokens += tokens
        request.generated_tokens += tokens
        self.instance.recorder.burst(request, self.number, self.group.tick, tokens, now)
        if tokens == left:
            self.verifying.remove(request)
            request.first_tick = self.group.tick
            ended.append(request)

    def first_token(self, request: LiveRequest, now: float, ended: list[LiveRequest]) -> None:
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
        role = self.instance.role
        return (role == "prefill" or (role == "decode" and request.generated_tokens == 1)) and self.instance.transfer_prefilled(request)

    def place_landed(self) -> None:
        """Requests from elsewhere take free sequence slots, in order of landing. They hold the block of their next token already."""
        landed = self.landed
        while landed and self.running < self.max_seqs:
            request = landed.pop(0)
            self.instance.admissions += 1
            request.admission = self.instance.admissions
            request.planned = -1
            self.join_group(request)

    def end(self, request: LiveRequest, now: float) -> None:
        """The request has emitted its last token."""
        self._emitted(request)
        if self.ends_late:
            self.lingering.append(request)
        else:
            self.kv.release(request, gone=True)
        request.state = _ENDED
        if self.instance.kv_transfers is not None:
            self.instance.kv_transfers.leaves(request)
        self.instance.recorder.completed(request, self.instance.index, now)

    def _emitted(self, request: LiveRequest) -> None:
        """Notes the tokens since the request joined the group (or finished its prefill)."""
        tokens = None if self.speculating is None else self.speculating.emitted(request.row)
        if tokens is None:
            self.instance.recorder.segment(request, self.number, self.group.tick - 1)
        else:
            self.instance.recorder.course(request, self.number, tokens)
        request.prefill_end_s = -1.0

    def detach(self, request: LiveRequest) -> None:
        """Takes a decoding request out, its KV set aside; between steps only."""
        self.group.leave(request)
        self._emitted(request)
        request.state = State.MOVING
        self.instance.set_aside(request)

    def victim(self) -> LiveRequest:
        """The running request that goes first when memory is short."""
        return max([*self.group.members.values(), *self.prefilling, *self.lingering], key=self.instance.order.victim_key)

    def release_lingering(self) -> None:
        """The plan that did not know of them is made: requests that have ended give up their slots and memory."""
        for request in self.lingering:
            self.kv.release(request, gone=True)
        self.lingering.clear()
        self.instance.signals.ease(self.instance.index)

    def preempt(self, request: LiveRequest, swap_times_s: list[float], credit_tokens: int = 0) -> None:
        """Takes the KV blocks from a running request; see StepPlan.preempt."""
        self.runner.gave_up_kv()
        request.preemptions += 1
        if request.state is _ENDED:
            self.lingering.remove(request)
            self.kv.release(request, gone=True)
            return
        decoding = request.state is not State.PREFILLING
        # The engine names contents when it knows the tokens: with asynchronous scheduling not the one that came with the last step.
        unknown = int(self.ends_late and request.state is State.DECODING and self.group.tick > request.first_tick)
        if self.instance.migrating and request.row in self.instance.migrating:
            self.instance.migrating[request.row].abort("the request was preempted")
        if request.state is State.DECODING:
            self.leave_group(request)
        elif request.state is State.VERIFYING:
            self.verifying.remove(request)
        else:
            self.prefilling.remove(request)
            if self.instance.kv_transfers is not None:
                self.instance.kv_transfers.leaves(request)
        if decoding and self.instance.swaps and self.kv.swap_out(request):
            request.state = State.SWAPPED
            self.swapped.append(request)
            swap_times_s.append(self.swap_time(request.computed_tokens))
        else:
            self.kv.release(request, unknown=unknown)
            request.lose_kv()
            request.computed_tokens = credit_tokens
            self.instance.intake.waiting.requeue(request)

    def stall(self, request: LiveRequest) -> None:
        """Instead of being preempted, a request keeps its KV and claims memory that other lanes will give up (`Runner.keeps_kv`). One
        that prefills is out of the plan's sight until the plan is made."""
        self.runner.claim = request
        if request.state is State.PREFILLING:
            self.prefilling.remove(request)
            request.state = State.STALLED
            self.stalled.append(request)

    def go_on(self) -> None:
        """The plan is made: stalled prompts are in their places again."""
        for request in self.stalled:
            request.state = State.PREFILLING
            self.prefilling.append(request)
        self.prefilling.sort(key=lambda request: request.admission)
        self.stalled.clear()

    def find(self, row: int) -> LiveRequest | None:
        """The request of a row, None if it is not here."""
        request = self.group.members.get(row)
        if request is not None:
            return request
        return next((request for request in self.requests() if request.row == row), None)

    def runs(self, request: LiveRequest) -> bool:
        """Whether a request of the batch holds a sequence slot: it may be in the step in progress."""
        return request not in self.swapped and request not in self.landed

    def give_up(self, request: LiveRequest) -> None:
        """Takes out a request whose client has given up. Between steps, unless it does not run."""
        runner, instance = self.runner, self.instance
        if request in self.swapped:
            self.swapped.remove(request)
            self.kv.drop(request)
        else:
            if request.row in self.group.members:
                self.group.leave(request)
                self._emitted(request)
            else:
                next(part for part in (self.prefilling, self.verifying, self.landed) if request in part).remove(request)
            self.kv.give_up(request, runner.grown_blocks)
        if runner.claim is request:
            runner.claim = None
        runner.gave_up_kv()
        if instance.kv_transfers is not None:
            instance.kv_transfers.leaves(request)

    def reject(self, request: LiveRequest, reason: str) -> None:
        """Ends a waiting request without service."""
        if request.held_blocks:  # it has waited for a load
            self.kv.release(request)
        request.state = State.ENDED
        instance = self.instance
        instance.recorder.refused(request, instance.index, self.now, reason)
        instance.signals.waiting[instance.index] = len(instance.intake)  # what its end releases is routed in the middle of this plan
        instance.ended([request], self.now)

    def swap_in(self, request: LiveRequest) -> bool:
        """Takes blocks for a request that comes back from the host and its next step."""
        group = self.speculating
        return self.kv.swap_in(request) if group is None else self.kv.swap_in_for(request, group.most_tokens(request))

    def swap_time(self, tokens: int) -> float:
        """Seconds to copy the KV of `tokens` tokens to or from the host."""
        self.instance.swapped_tokens += tokens
        seconds = self.cost.swap_time(tokens)
        if not 0 <= seconds < inf:
            not_priced(self.cost, f"says that a swap of {tokens} tokens takes {seconds!r} s; times must be finite and at least 0")
        return seconds

    def requests(self) -> list[LiveRequest]:
        """All of them."""
        return [*self.group, *self.prefilling, *self.verifying, *self.swapped, *self.landed]

    def crash(self) -> list[LiveRequest]:
        """Everything is lost: takes all requests out, their counts up to date."""
        lost = self.requests()
        for request in list(self.group):
            self.group.leave(request)
            self._emitted(request)
        for requests in (self.prefilling, self.verifying, self.swapped, self.landed, self.lingering):
            requests.clear()
        return lost


def not_priced(cost: Any, what: str) -> NoReturn:
    """Raises the PolicyError of a cost model that has given what is no time."""
    raise PolicyError(f"cost model '{type(cost).__name__}' {what}")
