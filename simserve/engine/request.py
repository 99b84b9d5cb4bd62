"""A request while it is in an instance. Before and after, requests are rows of columns."""

from __future__ import annotations

from typing import Any, ClassVar

from simserve.compiled import mypyc_attr
from simserve.contracts.request import State as State
from simserve.engine.stated_columns import NONE_STATED, StatedColumns, Value

_WAITING = State.WAITING  # read in a third of the time of an enumeration's attributes


_ATTRIBUTES = (
    "admission",
    "base_computed",
    "base_generated",
    "beside_blocks",
    "cached_estimate",
    "cached_tokens",
    "computed_tokens",
    "entered_s",
    "first_tick",
    "first_token_s",
    "generated_tokens",
    "grows",
    "held_blocks",
    "layer_pass",
    "loaded",
    "losses",
    "max_output_tokens",
    "offered_ids",
    "pinned_ids",
    "planned",
    "preemptions",
    "prefill_end_s",
    "prefix_ids",
    "priority",
    "prompt_tokens",
    "recomputed_tokens",
    "released_s",
    "reread_tokens",
    "row",
    "scheduled_s",
    "session",
    "state",
    "stated",
    "target_tokens",
)


@mypyc_attr(allow_interpreted_subclasses=True)
class LiveRequest:
    """What a policy may know of a request. The true output length is not among it (I8); an oracle sees OracleRequest.

    row              index in the request table
    released_s       when it entered the system: its client sent it, seconds
    entered_s        when it entered the instance
    prompt_tokens    length of its prompt (>= 1)
    priority, max_output_tokens, session   as in RequestTable
    state            State
    target_tokens    tokens to have in the KV cache before it emits its next token: the prompt, and after a preemption by recompute also
                     the tokens generated so far. vLLM V1's idea: a request has tokens computed and tokens to compute, no phases
    computed_tokens  tokens in the KV cache; kept up to date except while it decodes (then the group's tick knows, see DecodeGroup)
    generated_tokens tokens emitted; likewise
    held_blocks      KV blocks of its block table; likewise
    beside_blocks    KV blocks it owns beside its table, of windows and recurrent state (KvGroups); likewise
    cached_tokens    prompt tokens that its first admission found in the prefix cache
    reread_tokens    tokens that later admissions found there: after a preemption or a failure it reads again what has been computed
    cached_estimate  while it waits under a cache-dependent order: prompt tokens found in the prefix cache at the last plan
    prefix_ids       contents of its prompt for the prefix cache (see PrefixCache); empty when unknown
    loaded           whether what it has to wait for is there (`InstanceSpec.loads`)
    stated           further columns of the workload, where it has any (see `column`)
    losses           instances that have died with it
    admission        number of its admission, rising over the instance's life; larger = more recent
    layer_pass       while a chunk of it is on its way through the layers group by group: (tokens of the chunk, groups passed, groups in
                     all); None otherwise. See StepPlan.prefill. A preemption loses it: each admission begins without
    """

    __slots__ = _ATTRIBUTES

    kinds: ClassVar[tuple[type[LiveRequest], type[OracleRequest]]]
    """Without and with the true output length (`seen_by`)."""

    # Set when it joins a DecodeGroup, which alone uses them.
    base_computed: int
    base_generated: int
    first_tick: int
    grows: bool
    # Set where the workload has such columns.
    stated: StatedColumns

    def __init__(self, row: int, released_s: float, prompt_tokens: int, priority: int, max_output_tokens: int, session: int) -> None:
        self.row = row
        self.released_s = self.entered_s = released_s
        self.prompt_tokens = prompt_tokens
        self.priority = priority
        self.max_output_tokens = max_output_tokens
        self.session = session
        self.state = _WAITING
        self.target_tokens = prompt_tokens
        self.computed_tokens = 0
        self.generated_tokens = 0
        self.held_blocks = 0
        self.beside_blocks = 0
        self.cached_tokens = 0
        self.reread_tokens = 0
        self.cached_estimate = 0
        self.admission = -1
        self.preemptions = 0
        self.recomputed_tokens = 0
        self.losses = 0
        self.scheduled_s = -1.0
        self.first_token_s = -1.0
        self.prefill_end_s = -1.0
        self.planned = -1
        self.loaded = False
        self.layer_pass: tuple[int, int, int] | None = None
        self.prefix_ids: list[int] = []
        self.pinned_ids: list[Any] = []  # contents that it uses, by the names that its prefix cache has for them
        self.offered_ids = 0

    def lose_kv(self) -> None:
        """Its KV is gone: it waits, and what it had computed is to be computed again. Its counts must be up to date."""
        self.recomputed_tokens += self.computed_tokens
        self.computed_tokens = 0
        self.held_blocks = self.beside_blocks = 0
        self.target_tokens = self.prompt_tokens + self.generated_tokens
        self.pinned_ids = []
        self.offered_ids = 0
        self.loaded = False
        self.prefill_end_s = -1.0
        self.state = _WAITING

    def start_over(self) -> None:
        """It begins anew, as if it had never been served; what it computed stays counted, what it found in a cache is no hit any more."""
        self.reread_tokens += self.cached_tokens
        self.cached_tokens = 0
        self.generated_tokens = 0
        self.target_tokens = self.prompt_tokens
        self.scheduled_s = self.first_token_s = -1.0

    def column(self, name: str) -> Value:
        """What the workload states of it in a further column, such as its adapter; None where it states nothing. Raises PolicyError for a
        name that is none of a column that policies may see."""
        return getattr(self, "stated", NONE_STATED).value(name, self.row)

    @property
    def prefill_left(self) -> int:
        """Tokens still to compute before the next token can be emitted."""
        return self.target_tokens - self.computed_tokens

    @property
    def is_prefilling(self) -> bool:
        """Whether it has a sequence slot and prompt tokens to compute (False again after a preemption)."""
        return self.state is State.PREFILLING

    def __repr__(self) -> str:
        return f"<request {self.row}: {State(self.state).name.lower()}, {self.computed_tokens}/{self.target_tokens} tokens>"


@mypyc_attr(allow_interpreted_subclasses=True)
class OracleRequest(LiveRequest):
    """A request whose true output length can be read: given only to policies that declare `oracle = True`."""

    __slots__ = ("output_tokens",)

    output_tokens: int


LiveRequest.kinds = (LiveRequest, OracleRequest)


def seen_by(request: LiveRequest, oracle: bool, output_tokens: int) -> LiveRequest:
    """The request as an instance may see it: with its true output length if a policy or order there is an oracle, else without it (I8).

    It must be in no instance: where that is not what it is already, its twin goes on in its place.
    """
    kind = request.kinds[oracle]
    if type(request) is not kind:
        twin = kind(request.row, request.released_s, request.prompt_tokens, request.priority, request.max_output_tokens, request.session)
        for name in _ATTRIBUTES:
            if hasattr(request, name):
                setattr(twin, name, getattr(request, name))
        request = twin
    if isinstance(request, OracleRequest):
        request.output_tokens = output_tokens
    return request
