"""Steps that take a stated time whatever they compute, and drafts that are accepted as a workload says: what is left is the schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simserve.contracts import PREFILL, VERIFY, CostModel, Course, Step


class ConstantSteps(CostModel):
    """`step_s` seconds a step, on `stages` pipeline stages in equal parts."""

    slice_kinds = frozenset({PREFILL, VERIFY})

    def __init__(self, step_s: float, stages: int = 1) -> None:
        self._times = (step_s / stages,) * stages

    @property
    def stages(self) -> int:
        """Pipeline stages."""
        return len(self._times)

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """The stated time."""
        return self._times

    def swap_time(self, tokens: int) -> float:
        """None: what is copied beside steps is no part of a schedule."""
        return 0.0

    def flops(self, new_tokens: float, attended_pairs: float) -> float:
        """None are counted."""
        return 0.0

    @property
    def peak_flops_per_s(self) -> float:
        """Of no device."""
        return 1.0

    def describe(self) -> dict[str, Any]:
        """What was simulated with."""
        return {"steps": "constant", "step_s": sum(self._times)}


class StatedDrafts:
    """Speculation in which each request's accepted tokens are stated by the tokens generated before (`ScheduleRequest.accepted`).

    tokens    drafted in a row in every verify step
    accepted  by row of the workload, then by generated tokens; None = a request without drafts
    """

    def __init__(self, tokens: int, accepted: Sequence[Sequence[int] | None], rejected_kv: str) -> None:
        self.rejected_kv = rejected_kv
        self._tokens = tokens
        self._accepted = accepted

    def drafts(self, decodes: int) -> int:
        """The same for every batch."""
        return self._tokens

    def passes(self, drafts: int) -> int:
        """None: drafting takes no time of its own."""
        return 0

    def most_drafted(self, drafts: int) -> int:
        """A chain."""
        return drafts

    def accepted(self, row: int, generated_tokens: int, drafted: int) -> int:
        """As stated, at most all that are drafted."""
        stated = self._accepted[row]
        return min(stated[generated_tokens], drafted) if stated is not None and generated_tokens < len(stated) else 0

    def course(self, row: int, generated_tokens: int, output_tokens: int, drafts: int, first: int | None = None) -> Course:
        """The rest of a request, step by step; the first drafts at most `first` tokens."""
        tokens: list[int] = []
        drafted: list[int] = []
        while generated_tokens < output_tokens:
            now = drafts if first is None or tokens else min(drafts, first)
            now = 0 if self._accepted[row] is None else now
            emitted = min(self.accepted(row, generated_tokens, now) + 1, output_tokens - generated_tokens)
            tokens.append(emitted)
            drafted.append(now)
            generated_tokens += emitted
        return Course(np.array(tokens, dtype=np.int64), np.array(drafted, dtype=np.int64))
