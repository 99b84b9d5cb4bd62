"""StepCost with its attention dealt to cores."""

from __future__ import annotations

from typing import Any

from simserve.contracts import Step
from simserve.cost.cores.attention import TiledAttention
from simserve.cost.stage import Stage
from simserve.cost.step import StepCost
from simserve.errors import ModelError
from simserve.model.layout import layer_groups, layer_operators
from simserve.model.operators import Attention


class TiledStepCost(StepCost):
    """A StepCost whose options have a task table. Everything but attention is as in StepCost; all attention of a step is one part.

    It asks for the context of every sequence and deals the tiles of each step anew, so a step costs some 50 to 200 microseconds where
    StepCost takes 2.
    """

    def _build(self) -> None:
        super()._build()
        options = self._kernels.options.task_table
        if options is None:
            raise ModelError("tiles need options.task_table")
        self._tiles: list[TiledAttention] = []
        for index, stage in enumerate(self._stages):
            layers = [
                (op, count)
                for layer, count in layer_groups(self._model, self._parallel, index)
                for op in layer_operators(self._model, self._parallel, layer)
                if isinstance(op, Attention)
            ]
            self._tiles.append(TiledAttention(self._kernels, layers, options, self._context_limit, stage.decode))

    def step_time(self, step: Step) -> float:
        """Seconds of one step on a single-stage instance. Raises ModelError when there is more than one stage."""
        if len(self._stages) > 1:
            return super().step_time(step)
        return sum(self.breakdown(step).values())

    def decode_times(self, step: Step, steps: int) -> list[float]:
        """Seconds of `steps` decode-only steps, one by one."""
        return [self.step_time(step.after(i)) for i in range(steps)]

    def verify_times(self, steps: Any) -> list[float]:
        """Seconds of decode-only steps that verify drafted tokens, one by one."""
        return [self.step_time(steps.step(i)) for i in range(len(steps.context_tokens))]

    def _device_parts(self, stage: Stage, step: Step) -> dict[str, float]:
        if step.slices and step.slices[0].layers is not None:
            raise ModelError("prefill by groups of layers is not modelled together with task_table")
        parts = super()._device_parts(stage, step)
        kernels = {name: parts.pop(name) for name in [*parts] if name.startswith("attention_")}
        if kernels:
            parts["attention"] = next(tiles for own, tiles in zip(self._stages, self._tiles, strict=True) if own is stage).seconds(step)
        return parts
