"""A request as policies see it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol


class State(IntEnum):
    """Where a live request is."""

    WAITING = 0
    PREFILLING = 1
    DECODING = 2
    SWAPPED = 3
    ENDED = 4
    MOVING = 5
    STALLED = 6
    VERIFYING = 7
    LOADING = 8


class Request(Protocol):
    """What a policy may know of a request. The true output length is not among it (I8); an oracle is given an OracleRequest."""

    @property
    def row(self) -> int:
        """Index in the request table."""

    @property
    def released_s(self) -> float:
        """When it entered the system: its client sent it. Seconds of simulated time. (Its arrival time, in the request table, is when the
        workload states that; in a closed loop or behind a client's bound it is released when its turn comes.)"""

    @property
    def entered_s(self) -> float:
        """When it entered the instance it is in, after the time outside (HTTP, tokenising). Seconds of simulated time."""

    @property
    def first_token_s(self) -> float:
        """When it emitted its first token, seconds of simulated time; -1 before."""

    @property
    def prompt_tokens(self) -> int:
        """Length of its prompt, at least 1."""

    @property
    def max_output_tokens(self) -> int:
        """The client's limit of output tokens; -1 = none stated."""

    @property
    def priority(self) -> int:
        """Larger is more urgent."""

    @property
    def session(self) -> int:
        """Requests of one conversation have the same number; -1 = none."""

    def column(self, name: str) -> int | float | str | None:
        """What the workload states of it in a column that has no property here, such as `adapter` or `salt`; None where it states nothing.
        Raises PolicyError for a name that is none of a column that policies may see."""

    @property
    def state(self) -> State:
        """Where it is."""

    @property
    def target_tokens(self) -> int:
        """Tokens to have in the KV cache before it emits its next token: the prompt, and after a preemption by recompute also the tokens
        generated so far. vLLM V1's idea: a request has tokens computed and tokens to compute, no phases."""

    @property
    def computed_tokens(self) -> int:
        """Tokens in the KV cache. While it decodes, ask `view.decoding.computed_tokens(request)`."""

    @property
    def generated_tokens(self) -> int:
        """Tokens emitted. While it decodes, ask `view.decoding.generated_tokens(request)`."""

    @property
    def prefill_left(self) -> int:
        """Tokens still to compute before the next token can be emitted."""

    @property
    def is_prefilling(self) -> bool:
        """Whether it has a sequence slot and prompt tokens to compute (False again after a preemption)."""

    @property
    def held_blocks(self) -> int:
        """KV blocks it owns; kept up to date except while it decodes."""

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came from the prefix cache."""

    @property
    def cached_estimate(self) -> int:
        """While it waits under a cache-dependent order: prompt tokens found in the prefix cache at the last plan."""

    @property
    def prefix_ids(self) -> Sequence[int]:
        """Contents of its prompt for prefix caches, one id for each full run of tokens; empty when unknown."""

    @property
    def admission(self) -> int:
        """Number of its admission, rising over the instance's life; larger = more recent."""

    @property
    def preemptions(self) -> int:
        """Times it lost its KV or was swapped out."""

    @property
    def layer_pass(self) -> tuple[int, int, int] | None:
        """While a chunk of it is on its way through the layers group by group: (tokens of the chunk, groups passed, groups in all)."""


class OracleRequest(Request, Protocol):
    """A request whose true output length can be read: given only to policies that declare `oracle`."""

    @property
    def output_tokens(self) -> int:
        """Output tokens at which it will end."""
