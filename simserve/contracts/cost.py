"""A step as a value, and what the engine asks of a cost model. Nothing here, and nothing that implements it, knows SimPy or policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

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
        """The decode-only step of the same batch so many steps later, without speculation: each context is longer by as many tokens."""
        later = Step(self.decodes, self.context_tokens + steps * self.decodes, self.longest_tokens + steps)
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


class Acceptance(Protocol):
    """How many drafted tokens the model accepts (speculative decoding): known to the engine, not to policies."""

    def accepted(self, row: int, generated_tokens: int, drafted: int) -> int:
        """Of `drafted` tokens drafted for the request in `row` of the request table after `generated_tokens` of its output: the first so
        many are right, 0 to `drafted`. The same for equal arguments, so that it does not depend on scheduling."""
        ...


class CostModel(Protocol):
    """Seconds of engine steps for one model on one instance (its devices, its parallel layout, its engine profile).

    Times are seconds, > 0, deterministic: the same for equal steps. A class that derives from this one writes `stage_times`; the others
    that are answered here follow from it and may be written for speed. To change another cost model, derive from `CostWrapper`.
    """

    slice_kinds: frozenset[str] = frozenset({PREFILL})
    """Kinds of slices that it can price. A plan with any other is refused. One that has "verify" prices steps with drafted tokens too."""

    @property
    def stages(self) -> int:
        """Pipeline-parallel stages (1 = no pipeline)."""
        return 1

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """Time of the step on each pipeline stage, sending its activations to the next one included (length `stages`); host work counts
        on the first."""
        ...

    def step_time(self, step: Step) -> float:
        """Time of one step on a single-stage instance, host work included."""
        return self.stage_times(step)[0]

    def decode_times(self, step: Step, steps: int) -> list[float] | F64:
        """Times (list or array) of `steps` consecutive decode-only steps of an unchanged batch; each adds one token to every context.

        Element i must equal, bit for bit, `step_time(step.after(i))`.
        """
        return [self.step_time(step.after(i)) for i in range(steps)]

    def stage_decode_times(self, step: Step, steps: int) -> Sequence[Sequence[float]] | F64:
        """Times on each stage of `steps` consecutive decode-only steps of an unchanged batch, shape (steps, stages).

        Row i must equal, bit for bit, `stage_times(step.after(i))`.
        """
        return [self.stage_times(step.after(i)) for i in range(steps)]

    def verify_times(self, steps: DecodeSteps) -> list[float] | F64:
        """Times (list or array) of decode-only steps that verify drafted tokens, drafting them included.

        Element i must equal, bit for bit, `step_time(steps.step(i))`.
        """
        return [self.step_time(steps.step(i)) for i in range(len(steps.context_tokens))]

    def swap_time(self, tokens: int) -> float:
        """Time to copy the KV of `tokens` tokens between device and host, either way (all ranks in parallel)."""
        ...

    def breakdown(self, step: Step) -> dict[str, float]:
        """The same step's seconds by part (gemm, attention_prefill, attention_decode, collective, elementwise, lm_head, host ...)."""
        return {"step": sum(self.stage_times(step))}

    def flops(self, new_tokens: float, attended_pairs: float) -> float:
        """Useful model FLOPs of all ranks for `new_tokens` tokens whose queries attend `attended_pairs` (query, key) pairs in all, the LM
        head left out."""
        ...

    def logits_flops(self, rows: float) -> float:
        """Useful FLOPs of the LM head for the logits of so many rows: those that are sampled from, or verified."""
        return 0.0

    @property
    def peak_flops_per_s(self) -> float:
        """Dense peak of all devices of the instance at the model's compute type, for utilisation."""
        ...

    def describe(self) -> dict[str, Any]:
        """What was simulated with: model, hardware profile, engine profile, versions, the error of each operator and what is unvalidated.

        Plain JSON types. Ships with every result.
        """
        ...


class CostWrapper(CostModel):
    """Another cost model, changed: a subclass writes `stage_times`, which may ask `self.inner`, and `describe`, which says what it did.

        class Slower(CostWrapper):
            def stage_times(self, step: Step) -> tuple[float, ...]:
                return tuple(2 * seconds for seconds in self.inner.stage_times(step))

            def describe(self) -> dict[str, Any]:
                return self.inner.describe() | {"slower": "2 x"}

    Whatever else a cost model can be asked is the inner one's answer.
    """

    def __init__(self, inner: CostModel) -> None:
        self.inner = inner
        self.slice_kinds = inner.slice_kinds

    @property
    def stages(self) -> int:
        """Pipeline-parallel stages of the inner model."""
        return self.inner.stages

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """As the inner model says."""
        return self.inner.stage_times(step)

    def swap_time(self, tokens: int) -> float:
        """As the inner model says."""
        return self.inner.swap_time(tokens)

    def breakdown(self, step: Step) -> dict[str, float]:
        """The inner model's parts, stretched to the wrapped time."""
        parts = self.inner.breakdown(step)
        before = sum(parts.values())
        factor = sum(self.stage_times(step)) / before if before else 1.0
        return {part: factor * seconds for part, seconds in parts.items()}

    def flops(self, new_tokens: float, attended_pairs: float) -> float:
        """As the inner model says."""
        return self.inner.flops(new_tokens, attended_pairs)

    def logits_flops(self, rows: float) -> float:
        """As the inner model says."""
        return self.inner.logits_flops(rows)

    @property
    def peak_flops_per_s(self) -> float:
        """Of the inner model."""
        return self.inner.peak_flops_per_s

    def describe(self) -> dict[str, Any]:
        """As the inner model says."""
        return self.inner.describe()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":  # asked before `inner` is there: a copy being made
            raise AttributeError(name)
        return getattr(self.inner, name)
