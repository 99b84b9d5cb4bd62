"""What a scheduler sees of one instance and what it says: the view and the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, Self

from simserve.contracts.cost import PREFILL, Slice
from simserve.contracts.request import Request


class KvView(Protocol):
    """The KV cache of an instance, counted in blocks (PagedAttention, arXiv 2309.06180, section 4)."""

    @property
    def total_blocks(self) -> int:
        """Blocks of the instance, each `block_tokens` tokens of all layers on all ranks."""

    @property
    def free_blocks(self) -> int:
        """Blocks that no request owns. Contents that a prefix cache keeps for later count as free."""

    @property
    def used_blocks(self) -> int:
        """Blocks owned by requests."""

    @property
    def block_tokens(self) -> int:
        """Tokens of a block."""

    @property
    def watermark_blocks(self) -> int:
        """Free blocks an admission must leave; growth of running requests may use them."""

    @property
    def free_tokens(self) -> int:
        """Tokens that fit in the free blocks above the watermark, at least 0."""

    def idle_blocks(self, request: Request) -> int:
        """Free blocks that an admission of a waiting request would take for what the prefix cache has of it."""

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""


class WaitingView(Protocol):
    """Requests that are not admitted, in the order of the queue discipline. Walking it may admit or reject the request last yielded."""

    @property
    def fcfs(self) -> bool:
        """Whether they wait in the order in which they came."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Request]: ...


class DecodingView(Protocol):
    """The requests that have emitted a token and compute one more a step, as a group."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Request]: ...

    def __hash__(self) -> int: ...

    @property
    def tick(self) -> int:
        """Steps in which the group has decoded so far."""

    def computed_tokens(self, request: Request) -> int:
        """Tokens that a member has in the KV cache now."""

    def generated_tokens(self, request: Request) -> int:
        """Tokens that a member has emitted by now."""

    def context_tokens(self) -> int:
        """Tokens attended in the group's next step, summed over its members (each attends those in the cache and its own)."""

    def next_tokens(self) -> int:
        """Tokens that the group computes in its next step: one for each member, and the drafted ones if the instance speculates."""

    def blocks_needed(self) -> int:
        """New KV blocks that the group needs for its next step."""


class InstanceView(Protocol):
    """Read-only state of one batch in flight (an instance has one, or one for each pipeline stage) at the time of planning. To change
    anything, tell the plan."""

    @property
    def now(self) -> float:
        """Seconds of simulated time."""

    @property
    def waiting(self) -> WaitingView:
        """Requests not admitted, in the order of the queue discipline."""

    @property
    def prefilling(self) -> Sequence[Request]:
        """Admitted requests that have prompt tokens left to compute, oldest admission first."""

    @property
    def decoding(self) -> DecodingView:
        """The group of requests that decode."""

    @property
    def verifying(self) -> Sequence[Request]:
        """Decoding requests outside the group: their last step verified drafted tokens, and no plan has decoded the group since."""

    @property
    def swapped(self) -> Sequence[Request]:
        """Requests whose KV is on the host."""

    @property
    def kv(self) -> KvView:
        """The instance's KV cache."""

    @property
    def running(self) -> int:
        """Requests that hold a sequence slot: prefilling, decoding and verifying."""

    @property
    def max_seqs(self) -> int:
        """Most requests that may run in this batch."""

    @property
    def free_slots(self) -> int:
        """Requests that may still be admitted under max_seqs."""

    @property
    def max_model_len(self) -> int | None:
        """Longest sequence the model is served with, in tokens; None = not limited."""

    @property
    def max_model_tokens(self) -> int:
        """Longest prompt + output that a request may reach here: max_model_len, or less if the KV cache holds less."""

    @property
    def ending(self) -> Sequence[Request]:
        """Requests that have ended, which the engine does not know when it makes this plan (asynchronous scheduling): they keep their slots
        and memory in it."""

    @property
    def in_turn(self) -> bool:
        """Whether running requests can be planned one after the other (`StepPlan.grow` and `rest` of those that decode): not where the
        group speculates, nor with pipeline stages."""

    @property
    def stages(self) -> int:
        """Pipeline stages of the instance; each has a batch in flight."""

    @property
    def victim(self) -> Request:
        """The running request that the queue discipline preempts first."""

    def new_plan(self, budget: int | None = None) -> StepPlan:
        """An empty plan for the coming step, once a step. `budget` = most tokens of the step: decodes count one each and always ride,
        prefill slices must fit in what is left."""


class StepPlan(Protocol):
    """The coming step, built action by action. Each action takes effect at once, so the view answers for the state after it, and raises
    PolicyError when it breaks a rule (I10)."""

    @property
    def decodes(self) -> int:
        """Requests that decode one token in this step."""

    @property
    def slices(self) -> Sequence[Slice]:
        """The slices of this step, in the order given."""

    @property
    def budget_left(self) -> int | None:
        """Tokens left of the budget; None = no budget. Negative when the decodes alone exceed it."""

    @property
    def preempted(self) -> bool:
        """Whether this plan has preempted a request: nothing is admitted or swapped in any more."""

    def decode(self, group: DecodingView, preempt: bool = True) -> bool:
        """The whole group (`view.decoding`) computes one token each. When memory is short, running requests are preempted from the tail
        (the queue discipline says who is last) until the others have their blocks; otherwise swapped requests come back first, as long
        as memory and sequence slots allow. With `preempt=False` it is False, and nothing changes, when memory or the budget is short for
        all of them; a policy may then plan them in turn (`grow`, `preempt`, `rest`), and have those that are left decode."""

    def admit(self, request: Request, reserve_tokens: int | None = None, room_tokens: int = 0) -> bool:
        """Gives a waiting request a sequence slot and KV blocks for `reserve_tokens` tokens (default: all it has to prefill), where memory
        is free for `room_tokens` (vLLM's scheduler_reserve_full_isl: what it will hold, though it takes less now). False, and nothing
        changes, when there is no slot, when memory above the watermark is short, when requests wait on the host, or when this
        plan has preempted. False too when the request has its memory now and waits for a load (`InstanceSpec.loads`): it is out of the
        queue, and comes back before all others when it can be admitted."""

    def cached_tokens(self, request: Request) -> int:
        """Prompt tokens of a waiting request that an admission now would find in the prefix cache (0 without one)."""

    def refresh(self, request: Request) -> None:
        """What a waiting request would find in the prefix cache counts as just used, its last token included (SGLang's touch_prefix)."""

    def evict(self, blocks: int) -> None:
        """The prefix cache forgets contents without users until so many blocks are free of any, where it keeps whole sequences."""

    def grow(self, request: Request, tokens: int) -> bool:
        """Makes a prefilling request hold blocks for `tokens` tokens in all, or a decoding one for its next token, before its group
        decodes. False, and nothing changes, when memory is short."""

    def prefill(self, request: Request, tokens: int, layers: tuple[int, int] | None = None, kind: str = PREFILL) -> None:
        """Computes the next `tokens` tokens of an admitted request in this step. `layers=(group, groups)` takes them through one of so
        many groups of the layers only; the same tokens must then pass through groups 0, 1, ... in order, one a step. `kind` names a kind
        of slice that the instance's cost model prices in its own way (`CostModel.slice_kinds`)."""

    def verify(self, request: Request, drafted: int) -> bool:
        """A decoding request (of the group, or one that is verifying) computes its next token and `drafted` drafted ones together. It gets
        one token and as many of the drafted as are accepted (`InstanceSpec.acceptance`), at most what is left of its output; the KV of the
        others is rolled back in place. To be planned before `decode`, which takes those that are not verified back into the group. False,
        and nothing changes, when memory for all of them is short."""

    def preempt(self, request: Request, undo: bool = False, credit_tokens: int = 0, admits: bool = False) -> None:
        """Takes the KV from a running request that is not in this step's plan: by copying it to the host, if the instance preempts by
        swap and the host has room for a decoding request, else by forgetting it (it will be recomputed). With `undo` it may be in the
        plan: it is taken out, and its tokens are in the budget again. But `credit_tokens`, all it has in the plan, stay there: they are
        computed for nothing, and count as computed when it is admitted again, when the prefix cache is not asked (vLLM 0.11's error). After
        one that `admits`, requests may still be admitted in this plan: it has made room for them (SGLang's preempt_to_schedule)."""

    def to_front(self, request: Request) -> None:
        """A waiting request goes to the front of the queue, where the queue discipline is first come, first served. Not while the queue
        is walked."""

    def overrun(self, request: Request) -> None:
        """A request of `view.ending` computes a token that it has no use for: the engine does not know that it has ended. Its block must be
        there (`grow`)."""

    def rest(self, request: Request) -> None:
        """A decoding request sits this step out and keeps what it has. To be said before the group decodes."""

    def reject(self, request: Request, reason: str) -> None:
        """Refuses a waiting request for good."""

    def hold(
        self, *, steps: int | None = None, until_s: float | None = None, ignore_arrivals: bool | None = None, chunks: bool = False
    ) -> Self:
        """States that, until an event, the policy would plan the same again: the engine may then run the steps as one span.

        Something happens when a request finishes, memory runs short, or a request arrives. Plans with preemptions or swaps are never
        repeated, and those with prefill slices only if it says `chunks`: there the statement has no effect.

        steps            only for so many steps, this one included (None = until something happens)
        until_s          the policy is asked again at this time (seconds of simulated time, after `now`): when the step that is in progress
                         then has ended, or, if this plan is empty, at that time. A plan may be empty although requests wait if it says so
        ignore_arrivals  whether a request may arrive without a change of plan. None = under first come, first served, when a request
                         that could not be admitted waits already: a newcomer behind it cannot be admitted either. A policy that looks
                         past the head of the queue says False
        chunks           the slices too: each of their requests would get as many tokens again, and nothing else, while it has as many
                         left, and blocks for them; also if a request arrives (unless `ignore_arrivals` is False). True of a budget that
                         the decodes and the chunk of the first prompt use up
        """
