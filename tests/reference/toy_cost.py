"""Two made-up cost models for tests: one with awkward numbers, one with round ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simserve.contracts import CostModel, Step


class _SingleStage(CostModel):
    """What the toys share: one stage, no hardware behind them; each writes `step_time`."""

    peak_flops_per_s = 1e12  # type: ignore[assignment,misc]

    def stage_times(self, step: Step) -> tuple[float, ...]:
        return (self.step_time(step),)

    def step_time(self, step: Step) -> float:
        raise NotImplementedError

    def breakdown(self, step: Step) -> dict[str, float]:
        return {"toy": self.step_time(step)}

    def flops(self, new_tokens: float, attended_pairs: float) -> float:
        return 1e6 * new_tokens + 10.0 * attended_pairs

    def describe(self) -> dict[str, Any]:
        return {"model": type(self).__name__}


@dataclass(frozen=True)
class JaggedCost(_SingleStage):
    """Every argument of a step counts, with coefficients no sum of which is round: equal times mean equal work in equal order.

    Piecewise linear in tokens (a jump at each multiple of 16, as tile quantisation has), linear in contexts, quadratic in nothing.
    Chunks count by their place in the plan too, so two plans with the same chunks in another order differ.
    """

    scale_s: float = 1.0

    def step_time(self, step: Step) -> float:
        tokens = step.decodes + sum(p.new_tokens for p in step.slices)
        work = (
            0.0131927
            + 0.00314159 * tokens
            + 0.0271828 * (tokens // 16)
            + 0.000141421 * step.context_tokens
            + 0.000057721 * step.longest_tokens
        )
        for place, p in enumerate(step.slices):
            group, groups = p.layers or (0, 1)
            work += (0.00017320 + 0.0000016180 * place) * p.new_tokens * (p.context_tokens + 0.5 * p.new_tokens) / groups
            work += 0.00000223606 * group
        return self.scale_s * work

    def swap_time(self, tokens: int) -> float:
        return self.scale_s * (0.00223606 + 0.000264575 * tokens)


@dataclass(frozen=True)
class RoundCost(_SingleStage):
    """Quarters of a second only: arrivals, ends of steps and think times fall on the same instants, exactly, all the time."""

    def step_time(self, step: Step) -> float:
        return 0.25 * (1 + (step.decodes + sum(p.new_tokens for p in step.slices)) // 8)

    def swap_time(self, tokens: int) -> float:
        return 0.25 * (tokens // 8)


@dataclass(frozen=True)
class PromptCost(_SingleStage):
    """Seconds = `by_prompt_s[new prompt tokens]`, 1 s for a decode-only step: a server with a chosen service time (queueing theory)."""

    by_prompt_s: tuple[tuple[int, float], ...]

    def step_time(self, step: Step) -> float:
        tokens = sum(p.new_tokens for p in step.slices)
        return dict(self.by_prompt_s)[tokens] if tokens else 1.0

    def swap_time(self, tokens: int) -> float:
        return 0.0
