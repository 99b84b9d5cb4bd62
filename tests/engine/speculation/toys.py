"""Speculation and cost models simple enough to be computed by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simserve.contracts import FREED, KEPT, PREFILL, VERIFY, CostModel, CostWrapper, Course, Step
from simserve.speculation import Same, Schedule, Speculated


@dataclass(frozen=True)
class Drafting:
    """`k` tokens are drafted in a row; after output token g of row r, `(7 r + 3 g) mod (k + 1)` of them are right, or always `right`.

    more      nodes of a tree beside its depth
    misses    every so many tokens nothing is drafted (0 = never)
    quiet_at  a batch of so many does not speculate
    """

    k: int
    right: int | None = None
    more: int = 0
    misses: int = 0
    quiet_at: int | None = None
    rejected_kv: str = KEPT

    def drafts(self, decodes: int) -> int:
        return 0 if self.quiet_at is not None and decodes >= self.quiet_at else self.k

    def passes(self, drafts: int) -> int:
        return drafts

    def most_drafted(self, drafts: int) -> int:
        return drafts + self.more if drafts else 0

    def accepted(self, row: int, generated_tokens: int, drafted: int) -> int:
        right = (7 * row + 3 * generated_tokens) % (self.k + 1) if self.right is None else self.right
        return min(right, drafted)

    def course(self, row: int, generated_tokens: int, output_tokens: int, drafts: int, first: int | None = None) -> Course:
        tokens, drafted = [], []
        at = generated_tokens
        while at < output_tokens:
            width = drafts + self.more if drafts else 0
            if self.misses and at % self.misses == 0:
                width = 0
            if first is not None and not tokens:
                width = min(width, first)
            gained = min(1 + self.accepted(row, at, min(width, drafts)), output_tokens - at)
            tokens.append(gained)
            drafted.append(width)
            at += gained
        return Course(np.array(tokens, dtype=np.int64), np.array(drafted, dtype=np.int64))


class Verifying(CostWrapper):
    """Prices a drafted token as the inner model prices a prompt's, and each pass of the draft with a 64th of a second."""

    def __init__(self, inner: CostModel) -> None:
        super().__init__(inner)
        self.slice_kinds = frozenset({PREFILL, VERIFY})

    def stage_times(self, step: Step) -> tuple[float, ...]:
        more = step.drafted_tokens / 16 + step.draft_passes / 64
        return tuple(seconds + more for seconds in self.inner.stage_times(step))


KINDS = [
    Drafting(3),
    Drafting(1, right=0),
    Drafting(4, right=4),
    Drafting(2, more=5),
    Drafting(3, misses=2),
    Drafting(3, quiet_at=3),
    Drafting(3, rejected_kv=FREED),
    Drafting(5, more=3, misses=3, quiet_at=4, rejected_kv=FREED),
]

DRAWN = [
    Speculated(Schedule(3), Same((0.8, 0.7, 0.6)), 1),
    Speculated(Schedule(2, (2, 4), (1, 0)), Same((0.7, 0.7)), 2, rejected_kv=FREED),
    Speculated(Schedule(2), Same((0.9, 0.5)), 3, nodes=7),
    Speculated(Schedule(5), Same((0.9,) * 5), 4, draft_passes=False, hit=0.6, rejected_kv=FREED),
]
"""Speculations of experiments: accepted tokens are drawn."""
