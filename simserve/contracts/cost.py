"""What the engine asks of a cost model. Nothing here, and nothing that implements it, knows SimPy or policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from simserve.contracts.step import F64 as F64
from simserve.contracts.step import I64 as I64
from simserve.contracts.step import PREFILL as PREFILL
from simserve.contracts.step import VERIFY as VERIFY
from simserve.contracts.step import DecodeSteps as DecodeSteps
from simserve.contracts.step import Slice as Slice
from simserve.contracts.step import Step as Step


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
