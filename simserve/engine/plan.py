"""What a policy says when a lane of an instance is about to start a step."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from numbers import Real
from typing import Any, NoReturn

from simserve.compiled import mypyc_attr
from simserve.contracts import PREFILL, VERIFY, DecodingView, Request, Slice, Step
from simserve.contracts.step import slice_of
from simserve.engine.batch import Batch
from simserve.engine.in_turn import leave_void, take_out
from simserve.engine.layer_pass import pass_layers
from simserve.engine.readonly import write
from simserve.engine.request import LiveRequest, State
from simserve.engine.view import InstanceView
from simserve.engine.whole_numbers import integer, whole
from simserve.errors import PolicyError
from simserve.files.words import clipped

_WAITING, _PREFILLING = State.WAITING, State.PREFILLING  # read in a third of the time of an enumeration's attributes

UNTIL_EVENT = (1 << 30) - 1  # CPython compares numbers of one digit twice as fast
"""StepPlan.repeat: the plan stays right until something happens."""


@mypyc_attr(allow_interpreted_subclasses=True)
class StepPlan(Step):
    """The coming step, built action by action; each action takes effect at once and raises PolicyError when it breaks a rule. Numbers come
    as policies state them, of whatever type.

    A lane uses one all its life. Once made it is sealed: the `Step` that is priced. What came of it is recorded as a `Span`.

    decodes      requests that decode one token in this step
    slices       slices computed in this step, in the order given
    layers       (group, groups) of layers that the slices pass through in this step; None = all layers
    budget_left  tokens left of the budget (None = no budget); may be negative when the decodes alone exceed it
    preempted    a request was preempted in this plan: nothing is admitted or swapped in any more
    loads        requests that this plan gave memory, and that wait for a load now, or took it from: then it is not repeated
    repeat       how many steps in a row this plan is what the policy would choose, until an event (see `hold`)
    verified     slices of drafted tokens: how many, their tokens, and (query, key) pairs; None = none
    with_chunks  what is repeated are its slices too, each the next of its request
    serial       number of the plan among those of its lane
    until_s      when the policy wants to be asked again, seconds; None = when something happens
    decode_budget  tokens of the budget that the decoding group may use for drafted tokens; None = as many as it likes
    """

    __slots__ = (
        "_batch",
        "_made",
        "_view",
        "asked",
        "budget_left",
        "decode_budget",
        "ignores_arrivals",
        "layers",
        "loads",
        "preempted",
        "repeat",
        "serial",
        "sliced",
        "start_s",
        "swap_times_s",
        "until_s",
        "verified",
        "waiting",
        "with_chunks",
    )

    _made: list[Slice]  # `slices`, as the list that it is
    # Set when the step starts.
    start_s: float
    waiting: int

    def __init__(self, view: InstanceView, batch: Batch) -> None:
        self._view = view
        self._batch = batch
        write(view, "new_plan", self.reset)
        self.serial = 0
        super().__init__(0)
        self.slices = self._made = []
        self.sliced: list[LiveRequest] = []
        self.layers: tuple[int, int] | None = None
        self.swap_times_s: list[float] = []
        self.asked = True
        self.decode_budget: int | None = None
        self.reset()

    def reset(self, budget: Any = None) -> StepPlan:
        """Empties the plan for the coming step: once a step, because actions have taken effect. Policies know it as `view.new_plan`."""
        if not self.asked:
            self.refuse("asks for a second plan in one step")
        self.asked = False
        self.serial += 1
        self.decodes = 0
        if self.sliced:
            self.slices = self._made = []
            self.sliced = []
        self.layers = None
        if self.swap_times_s:
            self.swap_times_s = []
        if budget is not None and budget.__class__ is not int:
            budget = integer(self, budget, f"states a budget of {clipped(repr(budget))} tokens")
        self.budget_left = budget
        self.preempted = False
        self.loads = 0
        self.repeat = 1
        self.with_chunks = False
        self.until_s: float | None = None
        self.verified: tuple[int, int, int] | None = None
        self.ignores_arrivals = False
        return self

    def seal(self) -> None:
        """The plan is made: what the decoding group attends is known."""
        decodes, batch = self.decodes, self._batch
        if decodes:
            if batch.speculating is not None:
                batch.speculating.describe(self)
                return
            group = batch.group
            attended = group.tick + 1
            self.context_tokens = group.sum_base + decodes * attended
            longest_base = group._longest_base
            self.longest_tokens = group.longest_tokens() if longest_base is None else longest_base + attended
        else:
            if self._batch.grown:
                self.refuse("takes memory for the next tokens of decoding requests, and does not decode")
            self.context_tokens = self.longest_tokens = self.drafted_tokens = self.draft_passes = 0

    def contexts(self) -> Sequence[int]:
        """Attended tokens of each decoding request, in the order in which they joined."""
        return self._batch.group.contexts() if self.decodes else ()

    def widths(self) -> Sequence[int]:
        """Tokens that each decoding request computes, in the same order."""
        group = self._batch.speculating
        return [1] * self.decodes if group is None or not self.decodes else group.widths()

    # -- decoding ------------------------------------------------------------------------------------------------------------------

    def decode(self, group: DecodingView, preempt: bool = True) -> bool:
        """The whole decoding group computes one token each. `group` is `view.decoding`.

        When memory is short, running requests are preempted from the tail (the queue discipline says who is last) until the others have
        their blocks; otherwise swapped requests come back first, as long as memory and sequence slots allow. With `preempt=False` it is
        False, and nothing changes, when memory or the budget is short for all of them.
        """
        batch = self._batch
        if group is not batch.group:
            self.refuse("may decode only view.decoding")
        group = batch.group
        if self.decodes:
            self.refuse("decodes its group twice in one step")
        if batch.verifying:
            batch.rejoin(self.serial)
        if batch.speculating is not None:
            self.decode_budget = self.budget_left
            batch.speculating.draft(self.budget_left)
        need = group.blocks_needed()
        if batch.grown:
            need -= sum(batch.grown.values())
        if not preempt and (need > batch.kv._free or (self.budget_left is not None and group.next_tokens() > self.budget_left)):
            return False
        while need and not batch.kv.take(need):
            if batch.loads and batch.instance.intake.give_up_memory():  # before those that run, those that wait with memory
                self.loads += 1
                continue
            victim = batch.victim()
            if batch.runner.keeps_kv(victim):
                self.preempted = True
                batch.stall(victim)
                return True
            self.preempt(victim)
            if batch.speculating is not None:
                batch.speculating.deal(self.budget_left)
            need = group.blocks_needed()
        if batch.grown:
            batch.grown.clear()
        self.decodes = len(group.members)
        if batch.swapped and not self.preempted and batch.runner.claim is None:
            self._swap_in()
        tokens = self.decodes if batch.speculating is None else batch.speculating.took()
        if self.budget_left is not None:
            self.budget_left -= tokens
        return True

    def _swap_in(self) -> None:
        """Brings swapped requests back, longest admitted first, while memory above the watermark and slots allow. They decode at once."""
        batch = self._batch
        if batch.speculating is not None:
            batch.speculating.took()
        while batch.swapped:
            request = min(batch.swapped, key=lambda r: r.admission)
            if self._view.free_slots <= 0 or not batch.swap_in(request):
                break
            batch.swapped.remove(request)
            self.swap_times_s.append(batch.swap_time(request.computed_tokens))
            batch.join_group(request)
            self.decodes += 1
        if batch.speculating is not None:  # what they leave of the budget to the others may need fewer blocks
            batch.speculating.deal(self.budget_left)
            batch.kv.give_back(-batch.speculating.blocks_needed())

    def verify(self, request: Request, drafted: Any) -> bool:
        """A decoding request computes its next token and `drafted` drafted ones: see simserve.contracts.StepPlan."""
        batch = self._batch
        live: LiveRequest = request  # type: ignore[assignment]
        if batch.instance.spec.accepts is None or VERIFY not in batch.cost.slice_kinds:
            self.refuse(f"verifies drafted tokens of {request!r}, and the instance does not speculate")
        if live.state not in (State.DECODING, State.VERIFYING) or live.planned == self.serial or self.decodes:
            self.refuse(f"verifies {request!r}, which is not decoding or already in the step")
        if drafted.__class__ is not int:
            drafted = whole(self, drafted, request)
        if drafted < 1 or (self.budget_left is not None and drafted >= self.budget_left):
            self.refuse(f"verifies {drafted} drafted tokens of {request!r}{'' if drafted < 1 else ' over its budget'}")
        if not batch.start_verifying(live, drafted + 1):
            return False
        if self.budget_left is not None:
            self.budget_left -= drafted + 1
        live.planned = self.serial
        new, context = drafted + 1, live.computed_tokens
        self._made.append(Slice(new, context, None, VERIFY, live.row))
        requests, tokens, pairs = self.verified or (0, 0, 0)
        self.verified = requests + 1, tokens + new, pairs + new * context + new * (new + 1) // 2
        self.sliced.append(live)
        return True

    # -- prefilling ----------------------------------------------------------------------------------------------------------------

    def admit(self, request: Request, reserve_tokens: Any = None, room_tokens: Any = 0) -> bool:
        """Gives a waiting request a sequence slot and KV blocks for `reserve_tokens` tokens (default: all it has to prefill). Where
        `room_tokens` are more, memory must be free for so many.

        False, and nothing changes, when no sequence slot is free, when memory above the watermark is short, when requests wait on the
        host, when this plan has preempted, or when a request in another lane waits for memory and comes first. Raises PolicyError for a
        request that is not waiting.
        """
        if not isinstance(request, LiveRequest) or request.state is not _WAITING:
            self.refuse(f"admits {request!r}, which is not waiting")
        if reserve_tokens.__class__ is not int and reserve_tokens is not None:
            reserve_tokens = whole(self, reserve_tokens, request)
        if reserve_tokens is not None and reserve_tokens < 1:
            self.refuse(f"reserves {reserve_tokens} tokens for {request!r}")
        batch = self._batch
        running = len(batch.prefilling) + len(batch.group.members) + len(batch.verifying) + len(batch.lingering)
        if self.preempted or batch.swapped or running >= batch.max_seqs or batch.runner.claim is not None:
            return False
        kv = batch.kv
        tokens: int = request.target_tokens if reserve_tokens is None else reserve_tokens
        if request.loaded:  # its memory it has
            if not kv.grow(request, tokens):
                return False
            self._take(request)
            batch.start_prefill(request, batch.now)
            return True
        below = not running and not batch.watermark_always
        if not kv.admit(request, -(-tokens // kv.block_tokens), -(-room_tokens // kv.block_tokens), below):
            return False
        self._take(request)
        if found := request.computed_tokens:
            if request.scheduled_s < 0:
                request.cached_tokens += found
            else:  # as vLLM counts (vllm-project/vllm issue 25780): what a request reads again after it lost its KV is no hit
                request.reread_tokens += found
        if batch.loads and batch.loads.begin(request, batch.now):
            self.loads += 1
            return False
        batch.start_prefill(request, batch.now)
        return True

    def cached_tokens(self, request: Request) -> int:
        """Prompt tokens of a waiting request that an admission now would find in the prefix cache (0 without one), or has been loaded."""
        if request.loaded or request.computed_tokens:  # type: ignore[attr-defined]  # or it has credit
            return request.computed_tokens
        return self._batch.kv.look_up(request)  # type: ignore[arg-type]

    def refresh(self, request: Request) -> None:
        """What a waiting request would find in the prefix cache counts as just used, its last token included."""
        self._batch.kv.look_up(request, whole=True)  # type: ignore[arg-type]

    def evict(self, blocks: int) -> None:
        """The prefix cache forgets contents without users until so many blocks are free of any, where it keeps whole sequences."""
        self._batch.kv.evict(blocks)

    def grow(self, request: Request, tokens: Any) -> bool:
        """Makes a request hold blocks for `tokens` tokens in all: one that prefills, or has just ended, or one that decodes, for its next
        token, before the group does (`decode`). False, and nothing changes, when memory is short."""
        live: LiveRequest = request  # type: ignore[assignment]
        if tokens.__class__ is not int:
            tokens = whole(self, tokens, request)
        batch = self._batch
        decodes = live.state is State.DECODING
        may = live.state is _PREFILLING or live in batch.lingering
        if not may and (not decodes or self.decodes or tokens != batch.group.computed_tokens(live) + 1):
            self.refuse(f"grows {request!r} to {tokens} tokens, which is not prefilling")
        while not (batch.grow_member(live) if decodes else batch.kv.grow(live, tokens)):
            if not batch.loads or not batch.instance.intake.give_up_memory():
                return False
        return True

    def prefill(self, request: Request, tokens: Any, layers: tuple[int, int] | None = None, kind: str = PREFILL) -> None:
        """Computes the next `tokens` tokens of an admitted request in this step. Its blocks must have been reserved (admit, grow).

        `layers=(group, groups)` takes them through one of so many groups of the layers only. The same tokens must then pass through
        groups 0, 1 ... in order, one a step though not in every step; after the last they are computed. All slices of a step pass
        through the same layers. `kind` is one that the cost model prices.
        """
        live: LiveRequest = request  # type: ignore[assignment]  # policies get their requests from this view
        computed = live.computed_tokens
        if live.state is not _PREFILLING or live.planned == self.serial:
            self.refuse(f"prefills {request!r}, which is not prefilling or already in the step")
        if tokens.__class__ is not int:
            tokens = whole(self, tokens, request)
        new: int = tokens
        if not 0 < new <= live.target_tokens - computed:
            self.refuse(f"prefills {new} tokens of {request!r}")
        kv = self._batch.kv
        if live.held_blocks * kv.block_tokens < computed + new:
            self.refuse(f"is over memory: {request!r} holds {live.held_blocks} blocks, too few for {new} more tokens")
        if (left := self.budget_left) is not None:
            if new > left:
                self.refuse(f"is over budget: {new} tokens of {request!r} with {left} left")
            self.budget_left = left - new
        if layers is not None or self.layers is not None or live.layer_pass is not None:
            pass_layers(self, live, new, layers, self._batch.cost.stages)
        if kind is not PREFILL:
            self._check_kind(kind, live)
        prefix = kv.prefix
        if prefix is not None and prefix.when_planned and layers is None:
            prefix.offer(live, computed + new)
        live.planned = self.serial
        self._made.append(slice_of(Slice, (new, computed, self.layers, kind, live.row)))
        self.sliced.append(live)

    def _check_kind(self, kind: str, request: LiveRequest) -> None:
        if kind == VERIFY:
            self.refuse(f"prefills {request!r} in a slice of kind '{VERIFY}': drafted tokens are planned with verify(request, drafted)")
        if kind not in self._batch.cost.slice_kinds:
            known = ", ".join(sorted(self._batch.cost.slice_kinds))
            self.refuse(
                f"plans a slice of kind {clipped(repr(kind))} for {request!r}, which the instance's cost model does not price ({known})"
            )

    # -- taking away ---------------------------------------------------------------------------------------------------------------

    def preempt(self, request: Request, undo: bool = False, credit_tokens: int = 0, admits: bool = False) -> None:
        """Takes the KV from a running request that is not in this step's plan: by copying it to the host, if the instance preempts by swap
        and the host has room for a decoding request, else by forgetting it (it will be recomputed). With `undo` it may be in the plan, but
        for a group that decodes already: it is taken out, and its tokens are in the budget again. `credit_tokens` stay in it, and after one
        that `admits` requests may be admitted still: see simserve.contracts.StepPlan.

        With pipeline stages, the started prompt that would be the last of the instance to be preempted keeps its KV while other lanes hold
        any (docs/invariants.md): it is out of this plan, and goes on when they have given up enough.
        """
        live: LiveRequest = request  # type: ignore[assignment]
        if live.state not in (State.DECODING, State.PREFILLING, State.VERIFYING) and live not in self._batch.lingering:
            self.refuse(f"preempts {request!r}, which is not running")
        if undo and credit_tokens:
            if live.state is State.DECODING:
                leave_void(self, live, self._batch.group.computed_tokens(live))
            live.recomputed_tokens += credit_tokens
            live.planned = -1
        elif undo and live.planned == self.serial and live.state is _PREFILLING:
            take_out(self, live)
        if live.planned == self.serial or (self.decodes and live.state is State.DECODING):
            self.refuse(f"preempts {request!r}, which is in the step already")
        self.preempted = self.preempted or not admits
        if self._batch.loads:  # otherwise those that wait with memory could starve those that run, time and again
            self._batch.instance.intake.give_up_memory()
        if live.state is State.PREFILLING and self._batch.runner.keeps_kv(live):
            self._batch.stall(live)
        else:
            self._batch.preempt(live, self.swap_times_s, credit_tokens)

    def rest(self, request: Request) -> None:
        """A decoding request sits this step out; to be said before the group decodes."""
        live: LiveRequest = request  # type: ignore[assignment]
        if live.state is not State.DECODING or self.decodes:
            self.refuse(f"lets {request!r} rest, which is not decoding or already in the step")
        self._batch.rest(live, self.serial)

    def to_front(self, request: Request) -> None:
        """A waiting request goes to the front of the queue, where the queue discipline is first come, first served."""
        if not isinstance(request, LiveRequest) or request.state is not State.WAITING:
            self.refuse(f"brings {request!r} to the front, which is not waiting")
        self._view.waiting.to_front(request)

    def overrun(self, request: Request) -> None:
        """A request that has ended (`view.ending`) computes a token that it has no use for. Its block must be there (grow)."""
        live: LiveRequest = request  # type: ignore[assignment]
        if live not in self._batch.lingering or live.planned == self.serial or self.budget_left == 0:
            self.refuse(f"runs {request!r} past its end, which has not just ended or is in the step already")
        leave_void(self, live, live.computed_tokens)
        self._batch.instance.recorder.overrun_tokens += 1
        live.planned = self.serial

    def reject(self, request: Request, reason: str) -> None:
        """Refuses a waiting request for good."""
        if not isinstance(request, LiveRequest) or request.state is not State.WAITING:
            self.refuse(f"rejects {request!r}, which is not waiting")
        self._take(request)
        self._batch.reject(request, reason)

    # -- how long it holds ---------------------------------------------------------------------------------------------------------

    def hold(self, *, steps: Any = None, until_s: Any = None, ignore_arrivals: bool | None = None, chunks: bool = False) -> StepPlan:
        """The plan stays right until something happens: see simserve.contracts.StepPlan."""
        if steps is not None:
            if steps.__class__ is not int:
                steps = integer(self, steps, f"holds its plan for {clipped(repr(steps))} steps")
            if steps < 1:
                self.refuse(f"holds its plan for {steps!r} steps")
        if until_s is not None:
            if not isinstance(until_s, Real) or not self._view.now < float(until_s) < inf:
                self.refuse(f"holds its plan until {clipped(repr(until_s))} s, which is not after {self._view.now} s")
            self.until_s = float(until_s)
        if self.preempted or self.swap_times_s or self.loads:
            return self
        if self.slices:
            if chunks and self._batch.repeats_chunks and self._batch.kv.prefix is None and self.layers is None and self.verified is None:
                self.with_chunks = True
                self.repeat = UNTIL_EVENT if steps is None else steps
                self.ignores_arrivals = ignore_arrivals is not False
        else:
            batch = self._batch
            if batch.reorders and batch.queue:
                return self
            self.repeat = UNTIL_EVENT if steps is None else steps
            # Elsewhere a newcomer may be the head of the queue after the step, and the load of the instance tells of the head.
            self.ignores_arrivals = self._view.waiting.fcfs and (len(batch.queue) > 0 if ignore_arrivals is None else ignore_arrivals)
        return self

    def _take(self, request: LiveRequest) -> None:
        """Takes a request out of the waiting queue."""
        try:
            self._view.waiting.remove(request)
        except (ValueError, KeyError):
            self.refuse(f"names {request!r}, which is not waiting here")

    def refuse(self, what: str) -> NoReturn:
        """Raises the PolicyError of an action that breaks a rule."""
        raise PolicyError(f"policy '{self._batch.policy_name}' {what} (invariant I10)")
