"""A step cut in two halves whose computation and communication overlap, and experts that are not equally loaded.

Two streams (CloudMatrix-Infer, arXiv 2506.12708; DeepSeek's dual micro-batches): while one half of the step's tokens is on its way to the
experts or back, the other half computes. Each half reads the weights again, so small steps lose by it.
"""

from __future__ import annotations

from typing import Any

from simserve.contracts import CostModel, CostWrapper, Slice, Step
from simserve.cost.options import CostOptions
from simserve.errors import ModelError

COMMUNICATION = ("expert_exchange", "collective")
"""Parts of a step that occupy links, not cores. (CANN's dispatch writes remote memory from vector cores, which is not counted.)"""

_EXPERTS = ("moe", "expert_exchange")
"""Parts that end when the most loaded rank does."""

_ONCE = ("host", "launch")


def micro_batched(inner: CostModel, options: CostOptions) -> CostModel:
    """The cost model under `micro_batches` and `expert_imbalance` of the options; itself where they change nothing."""
    if options.micro_batches == 1 and options.expert_imbalance == 1.0:
        return inner
    return MicroBatched(inner, options.micro_batches, options.expert_imbalance)


class MicroBatched(CostWrapper):
    """Steps of another cost model in `streams` halves (1 = whole), their experts waiting for a rank with `imbalance` times the mean load.

    Raises ModelError for an instance with pipeline stages.
    """

    def __init__(self, inner: CostModel, streams: int, imbalance: float) -> None:
        super().__init__(inner)
        if inner.stages > 1:
            raise ModelError(f"micro_batches and expert_imbalance are modelled for one pipeline stage, this instance has {inner.stages}")
        self.streams = streams
        self.imbalance = imbalance

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """Seconds of the step: no less than both halves' computation, both halves' communication, or either half from end to end."""
        halves = _halves(step) if self.streams == 2 else (step,)
        parts = [self._parts(half) for half in halves]
        once = max(sum(part.get(name, 0.0) for name in _ONCE) for part in parts)
        sent = [sum(part.get(name, 0.0) for name in COMMUNICATION) for part in parts]
        computed = [sum(part.values()) - away - sum(part.get(name, 0.0) for name in _ONCE) for part, away in zip(parts, sent, strict=True)]
        alone = max(there + back for there, back in zip(computed, sent, strict=True))
        return (once + max(sum(computed), sum(sent), alone),)

    def describe(self) -> dict[str, Any]:
        """As the inner model, with what was changed."""
        about = self.inner.describe()
        changed = [f"{self.streams} micro-batches, computation over communication"] if self.streams > 1 else []
        changed += [f"the most loaded rank has {self.imbalance:g} times the mean load of experts"] if self.imbalance > 1.0 else []
        return about | {"unvalidated": [*about.get("unvalidated", []), *changed]}

    def _parts(self, step: Step) -> dict[str, float]:
        parts = self.inner.breakdown(step)
        return {name: seconds * (self.imbalance if name in _EXPERTS else 1.0) for name, seconds in parts.items()}


def _halves(step: Step) -> tuple[Step, ...]:
    """The step's sequences and chunks dealt out to two steps; a single chunk is cut in two. A step of one token stays whole."""
    if step.decode_tokens + sum(piece.new_tokens for piece in step.slices) < 2:
        return (step,)
    slices = list(step.slices)
    if len(slices) == 1 and slices[0].new_tokens > 1:
        piece, first = slices[0], -(-slices[0].new_tokens // 2)
        slices = [
            piece._replace(new_tokens=first),
            piece._replace(new_tokens=piece.new_tokens - first, context_tokens=piece.context_tokens + first),
        ]
    made = []
    for part in (0, 1):
        decodes = (step.decodes + 1 - part) // 2
        first = -(-step.drafted_tokens * ((step.decodes + 1) // 2) // step.decodes) if step.decodes else 0
        drafted = step.drafted_tokens - first if part else first
        context = round(step.context_tokens * decodes / step.decodes) if step.decodes else 0
        chunks: list[Slice] = slices[part::2]
        if decodes or chunks:
            made.append(Step(decodes, context, step.longest_tokens if decodes else 0, chunks, drafted, step.draft_passes))
    return tuple(made)
