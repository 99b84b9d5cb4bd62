"""Steps that take so many times as long, kernels and host alike."""

from __future__ import annotations

from typing import Any

from simserve.contracts import CostModel, CostWrapper, Step
from simserve.contracts.cost import F64, DecodeSteps


class StretchedCost(CostWrapper):
    """A cost model whose every step takes `factor` times as long; copies do not."""

    def __init__(self, cost: CostModel, factor: float) -> None:
        super().__init__(cost)
        self._factor = factor

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """Seconds of a stretched step on each stage."""
        return tuple(self._factor * seconds for seconds in self.inner.stage_times(step))

    def decode_times(self, step: Step, steps: int) -> list[float] | F64:
        """Seconds of consecutive stretched steps; element by element what `step_time` gives."""
        times = self.inner.decode_times(step, steps)
        return [self._factor * seconds for seconds in times] if isinstance(times, list) else self._factor * times

    def verify_times(self, steps: DecodeSteps) -> list[float] | F64:
        """Likewise of steps that verify drafted tokens."""
        times = self.inner.verify_times(steps)
        return [self._factor * seconds for seconds in times] if isinstance(times, list) else self._factor * times

    def describe(self) -> dict[str, Any]:
        """The stretched model and the factor."""
        return {**self.inner.describe(), "stretched_by": self._factor}
