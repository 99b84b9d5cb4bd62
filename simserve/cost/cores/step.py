"""StepCost with its attention dealt to cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simserve.contracts import VERIFY, DecodeSteps, Step
from simserve.cost.cores.attention import TiledAttention
from simserve.cost.stage import Stage
from simserve.cost.step import StepCost
from simserve.cost.verification import folded
from simserve.errors import ModelError
from simserve.model.layout import layer_groups, layer_operators
from simserve.model.operators import Attention


class TiledStepCost(StepCost):
    """A StepCost whose options have a task table. Everything but attention is as in StepCost; all attention of a step is one part.

    It asks for the context of every sequence and deals the tiles of each step anew, so a step costs some 100 microseconds where
    StepCost takes 2.
    """

    def _build(self) -> None:
        super()._build()
        options = self._kernels.options.task_table
        if options is None:
            raise ModelError("tiles are dealt to cores as options.task_table says: state one")
        self._tiles: list[TiledAttention] = []
        for index, stage in enumerate(self._stages):
            layers = [
                (op, count)
                for layer, count in layer_groups(self._model, self._parallel, index)
                for op in layer_operators(self._model, self._parallel, layer)
                if isinstance(op, Attention)
            ]
            # As in `build_stages`, stages of alike layers share their attention.
            alike = (tiles for other, tiles in zip(self._stages, self._tiles, strict=False) if other.decode is stage.decode)
            tiles = next(alike, None) or TiledAttention(self._kernels, layers, options, self._context_limit, stage.decode)
            self._tiles.append(tiles)

    def step_time(self, step: Step) -> float:
        """Seconds of one step on a single-stage instance. Raises ModelError when there is more than one stage."""
        if len(self._stages) > 1:
            return super().step_time(step)
        return self._of_one(_whole(step))[0]

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """Seconds of the step on each stage, sending its activations to the next one included. Host work is counted on the first."""
        return self._of_one(_whole(step))

    def stage_decode_times(self, step: Step, steps: int) -> list[tuple[float, ...]]:
        """`stage_times` of `steps` decode-only steps of one batch whose contexts grow by one token a step; bit-identical to it."""
        return list(zip(*self._around(step, lambda tiles: tiles.decode_seconds(step, steps)), strict=True))

    def breakdown(self, step: Step) -> dict[str, float]:
        """Seconds of the step by part, summed over stages; all attention is `attention`."""
        return super().breakdown(_whole(step))

    def decode_times(self, step: Step, steps: int) -> list[float]:
        """Seconds of `steps` decode-only steps of one batch whose contexts grow by one token a step; bit-identical to `step_time`."""
        if len(self._stages) > 1:
            return list(super().decode_times(step, steps))
        (seconds,) = self._around(step, lambda tiles: tiles.decode_seconds(step, steps))
        return seconds

    def verify_seconds(self, n: int, drafted_tokens: int, context_tokens: int, longest_tokens: int) -> float:
        """Seconds of a step of which no more is known."""
        return self.step_time(Step(n, context_tokens, longest_tokens, (), drafted_tokens))

    def verify_each(self, n: int, drafted: Sequence[int], contexts: Sequence[int], longest: Sequence[int]) -> list[float]:
        """The same of several steps."""
        return [self.verify_seconds(n, *each) for each in zip(drafted, contexts, longest, strict=True)]

    def verify_line(self, n: int, drafted: int, context: int, last_context: int, longest: int, last_longest: int) -> None:
        """Tiles make no lines."""

    def verify_times(self, steps: DecodeSteps) -> list[float]:
        """Seconds of decode-only steps that verify drafted tokens, one by one; bit-identical to `step_time`."""
        return [self.step_time(steps.step(i)) for i in range(len(steps.context_tokens))]

    def _of_one(self, step: Step) -> tuple[float, ...]:
        """Seconds of one step on each stage."""
        return tuple(seconds for (seconds,) in self._around(step, lambda tiles: [tiles.seconds(step)]))

    def _around(self, step: Step, attention: Callable[[TiledAttention], list[float]]) -> list[list[float]]:
        """By stage, seconds of steps that differ in their attention only, which `attention` says."""
        _refuse_groups(step)
        new = sum(piece.new_tokens for piece in step.slices)
        known: dict[int, list[float]] = {}
        found = []
        for stage, tiles in zip(self._stages, self._tiles, strict=True):
            if id(tiles) not in known:
                known[id(tiles)] = attention(tiles)
            rest = sum(seconds for part, seconds in super()._device_parts(stage, step).items() if not _attends(part))
            floor = self._launch_floor(stage, step.decodes, bool(step.slices), step.drafted_tokens)
            send = stage.stage_transfer[0] + stage.stage_transfer[1] * (step.decode_tokens + new) if stage.stage_transfer else 0.0
            found.append([max(rest + seconds, floor) + send for seconds in known[id(tiles)]])
        host = self._host_seconds(step.decodes, new)
        found[0] = [seconds + host for seconds in found[0]]
        return found

    def _device_parts(self, stage: Stage, step: Step) -> dict[str, float]:
        _refuse_groups(step)
        parts = super()._device_parts(stage, step)
        rest = {part: seconds for part, seconds in parts.items() if not _attends(part)}
        if len(rest) < len(parts):
            rest["attention"] = next(tiles for own, tiles in zip(self._stages, self._tiles, strict=True) if own is stage).seconds(step)
        return rest


def _whole(step: Step) -> Step:
    """The step with its verified slices among the decoding sequences, and what each of these attends and computes."""
    whole = folded(step)
    if whole is not step:
        verified = [piece for piece in step.slices if piece.kind == VERIFY]
        whole.known_contexts = (*step.contexts(), *(piece.new_tokens + piece.context_tokens for piece in verified))
        whole.known_widths = (*step.widths(), *(piece.new_tokens for piece in verified))
    return whole


def _refuse_groups(step: Step) -> None:
    if step.slices and step.slices[0].layers is not None:
        raise ModelError("prefill by groups of layers is not modelled together with task_table")


def _attends(part: str) -> bool:
    return part.startswith("attention_")
