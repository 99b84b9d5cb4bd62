"""How long the steps of a run spend in one of their parts: the question of papers that make one kernel faster."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from simserve.config.assemble import assemble
from simserve.config.experiment import Experiment
from simserve.contracts import CostWrapper, Step
from simserve.errors import ConfigError, nearest
from simserve.simulation import simulated_parts


def run_part_s(experiment: Experiment, part: str, *, mixed: bool = False) -> float:
    """Seconds of `part` over all steps of the experiment's workload, on all instances; `mixed`: of those that decode beside prompts.

    The run takes every step by itself (no spans), so that each is asked for once. Raises ConfigError for a part that no step has.
    """
    parts = assemble(experiment)
    tallies = [_Tally(spec.cost, part, mixed) for spec in parts.instances]
    instances = tuple(replace(spec, cost=tally) for spec, tally in zip(parts.instances, tallies, strict=True))
    stepwise = replace(experiment, spec=experiment.spec.model_copy(update={"fast_forward": False}))
    simulated_parts(stepwise, replace(parts, instances=instances))
    known = {name for tally in tallies for name in tally.parts}
    if part not in known:
        raise ConfigError(f"{experiment.name}: no step of the run has a part '{part}'{nearest(part, known)}")
    return math.fsum(seconds for tally in tallies for seconds in tally.seconds)


class _Tally(CostWrapper):
    """The same cost model, which remembers what it is asked."""

    def __init__(self, inner: Any, part: str, mixed: bool) -> None:
        super().__init__(inner)
        self._part, self._mixed = part, mixed
        self.seconds: list[float] = []
        self.parts: set[str] = set()

    def stage_times(self, step: Step) -> tuple[float, ...]:
        """As the inner model says."""
        if not self._mixed or (step.slices and step.decodes):
            found = self.inner.breakdown(step)
            self.parts.update(found)
            self.seconds.append(found.get(self._part, 0.0))
        return self.inner.stage_times(step)
