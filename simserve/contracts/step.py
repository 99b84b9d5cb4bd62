"""A step as a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.compiled import mypyc_attr

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

PREFILL = "prefill"
VERIFY = "verify"


class Slice(NamedTuple):
    """New tokens of one request that a step computes together, after `context_tokens` that are in the KV cache already.

    layers  (group, groups): the slice passes through this one of so many equal, contiguous groups of layers only (layered prefill); the
            other layers run the step's decodes alone. None = all layers. The same for all slices of a step.
    kind    "prefill": a chunk of a prompt. "verify": drafted tokens of a decoding request and the one before them, each of which yields
            logits. A policy may name kinds of its own if the instance's cost model prices them (`CostModel.slice_kinds`).
    row     of the request in the request table, -1 = none
    """

    new_tokens: int
    context_tokens: int
    layers: tuple[int, int] | None = None
    kind: str = PREFILL
    row: int = -1


slice_of = tuple.__new__
"""A slice of its fields, in half the time of the named tuple's own."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Step:
    """One engine step: sequences that decode, and slices. The plan of an engine's step is one; others are made by hand.

    decodes         sequences that decode: each computes one token, and with speculation drafted ones
    drafted_tokens  tokens that they compute beside these: drafted ones, which the step verifies (0 without speculation)
    draft_passes    forward passes of the draft model in this step (0 = nothing is drafted)
    context_tokens  sum over the sequences of the tokens their last query attends (the cached ones, and those of the step)
    longest_tokens  largest of these
    slices          in the order of the plan
    contexts()      attended tokens of each decoding sequence; costs time, so only cost models that need the distribution ask
    widths()        tokens that each computes, in the same order; costs time too
    """

    __slots__ = (
        "before",
        "context_tokens",
        "decodes",
        "draft_passes",
        "drafted_tokens",
        "known_contexts",
        "known_widths",
        "longest_tokens",
        "slices",
    )

    decodes: int
    drafted_tokens: int
    draft_passes: int
    context_tokens: int
    longest_tokens: int
    slices: Sequence[Slice]
    known_contexts: tuple[int, ...] | None
    known_widths: tuple[int, ...] | None
    before: tuple[Step, int] | None
    """The step that this one follows after so many steps: its contexts are worked out when asked."""

    def __init__(
        self,
        decodes: int,
        context_tokens: int = 0,
        longest_tokens: int = 0,
        slices: Sequence[Slice] = (),
        drafted_tokens: int = 0,
        draft_passes: int = 0,
    ) -> None:
        self.decodes = decodes
        self.drafted_tokens = drafted_tokens
        self.draft_passes = draft_passes
        self.context_tokens = context_tokens
        self.longest_tokens = longest_tokens
        self.slices = slices
        self.known_contexts = None
        self.known_widths = None
        self.before = None

    @staticmethod
    def of(contexts: Sequence[int], slices: Sequence[Slice] = ()) -> Step:
        """The step in which sequences with these attended tokens decode."""
        step = Step(len(contexts), sum(contexts), max(contexts, default=0), slices)
        step.known_contexts = tuple(contexts)
        return step

    def contexts(self) -> Sequence[int]:
        """Attended tokens of each decoding sequence. Where only total and longest are known: one is the longest, the others are equal."""
        if self.known_contexts is not None:
            return self.known_contexts
        if self.before is not None:
            step, steps = self.before
            return tuple(tokens + steps for tokens in step.contexts())
        if not self.decodes:
            return ()
        others = self.decodes - 1
        each, more = divmod(self.context_tokens - self.longest_tokens, others) if others else (0, 0)
        return (self.longest_tokens, *[each + 1] * more, *[each] * (others - more))

    def widths(self) -> Sequence[int]:
        """Tokens that each decoding sequence computes. Where only the total is known: as equal as whole numbers can be."""
        if self.known_widths is not None:
            return self.known_widths
        if not self.decodes:
            return ()
        each, more = divmod(self.drafted_tokens, self.decodes)
        return (*[each + 2] * more, *[each + 1] * (self.decodes - more))

    @property
    def decode_tokens(self) -> int:
        """Tokens that the decoding sequences compute in all."""
        return self.decodes + self.drafted_tokens

    def after(self, steps: int) -> Step:
        """The step of the same batch so many steps later, without speculation: each context is longer by as many tokens, and each slice is
        as many slices further in its prompt."""
        longest = self.longest_tokens + steps if self.decodes else 0
        later = Step(self.decodes, self.context_tokens + steps * self.decodes, longest)
        if self.slices:
            later.slices = [slice_of(Slice, (new, at + steps * new, layers, kind, row)) for new, at, layers, kind, row in self.slices]
        later.before = self, steps
        return later

    def __repr__(self) -> str:
        drafted = f", {self.drafted_tokens}, {self.draft_passes}" if self.drafted_tokens or self.draft_passes else ""
        return f"Step({self.decodes}, {self.context_tokens}, {self.longest_tokens}, {list(self.slices)!r}{drafted})"


class DecodeSteps(NamedTuple):
    """Consecutive decode-only steps of an unchanged batch that speculates: of each step, the fields of `Step` (equal lengths).

    each  the contexts and the widths of the sequences in the step of a number; costs time
    """

    decodes: int
    drafted_tokens: I64
    draft_passes: I64
    context_tokens: I64
    longest_tokens: I64
    each: Callable[[int], tuple[list[int], list[int]]] | None = None

    def step(self, number: int) -> Step:
        """One of them."""
        contexts, longest = int(self.context_tokens[number]), int(self.longest_tokens[number])
        drafted, passes = int(self.drafted_tokens[number]), int(self.draft_passes[number])
        step = Step(self.decodes, contexts, longest, (), drafted, passes)
        if self.each is not None:
            each_context, each_width = self.each(number)
            step.known_contexts, step.known_widths = tuple(each_context), tuple(each_width)
        return step
