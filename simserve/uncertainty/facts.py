"""What is asked of a run before its belief is formed: how it reacts to slower steps, how sure its steps are, where it leaves the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from simserve.contracts import Step
from simserve.engine.records import RunRecords
from simserve.uncertainty.beyond import Beyond, Sizes, beyond_kernels
from simserve.uncertainty.kernels import StepSpread, decode_step, prompt_step, step_spread
from simserve.uncertainty.sensitivity import Sensitivity, sensitivity_of


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a run.

    sensitivity  of its figures to the time of steps
    first, next  how sure the steps are that compute prompts, and those that only decode; of the least sure instance
    beyond       where it leaves the kernels' tables
    prompt, output  mean tokens of a request
    """

    sensitivity: Sensitivity
    first: StepSpread
    next: StepSpread
    beyond: tuple[Beyond, ...] = ()
    prompt: float = 0.0
    output: float = 0.0

    @property
    def unmeasured(self) -> float:
        """Fraction of a step's time of operators that nothing measured."""
        return max(self.first.unmeasured, self.next.unmeasured)

    def numbers(self) -> dict[str, float]:
        """The part that errors of measured runs are learned by, as plain numbers."""
        s = self.sensitivity
        found = {f"{_PREFIX}{f.name}": float(getattr(s, f.name)) for f in fields(s) if f.name not in ("load", "waits")}
        if s.load is not None:
            found[f"{_PREFIX}load"] = s.load
        for name in ("first", "next"):
            found |= {f"{_PREFIX}{name}_{part}": value for part, value in getattr(self, name)._asdict().items()}
        return found | {f"{_PREFIX}beyond": max((b.factor for b in self.beyond), default=1.0)}


_PREFIX = "about_"
"""Of the names of these numbers among the predicted metrics of a measured run."""


def of_numbers(numbers: Mapping[str, float]) -> Facts | None:
    """The facts in the numbers of a prediction; None where it has none."""
    own = {name.removeprefix(_PREFIX): value for name, value in numbers.items() if name.startswith(_PREFIX)}
    if not own:
        return None
    known: dict[str, Any] = {f.name: own[f.name] for f in fields(Sensitivity) if f.name in own}
    sensitivity = replace(Sensitivity(), **known)
    spreads = [StepSpread(*(own[f"{name}_{part}"] for part in StepSpread._fields)) for name in ("first", "next")]
    beyond = (Beyond(own["beyond"], ""),) if own["beyond"] > 1.0 else ()
    return Facts(sensitivity, spreads[0], spreads[1], beyond)


def facts_of(records: RunRecords, costs: Sequence[Any]) -> Facts:
    """Of a run; `costs` are the cost models of its instances, in their order."""
    first, after, beyond = NOTHING_KNOWN, NOTHING_KNOWN, {}
    seen: set[tuple[int, str]] = set()
    for lane in records.lanes:
        key = (id(costs[lane.instance]), records.instances[lane.instance].policy)
        if not len(lane.span_steps) or key in seen:
            continue
        seen.add(key)  # instances of a group are alike: one of them stands for all
        cost = costs[lane.instance]
        prompts, decodes = prompt_step(lane), decode_step(lane)
        first = max(first, step_spread(cost, prompts) or NOTHING_KNOWN) if prompts else first
        after = max(after, step_spread(cost, decodes) or NOTHING_KNOWN) if decodes else after
        for one in beyond_kernels(cost, Sizes.of(lane)):
            beyond[one.words] = one
    table = records.table
    lengths = [float(np.mean(column)) if len(column) else 0.0 for column in (table.prompt_tokens, table.output_tokens)]
    return Facts(sensitivity_of(records), first, after, tuple(sorted(beyond.values(), reverse=True)), *lengths)


def facts_of_steps(cost: Any, prompts: Step, decodes: Step) -> Facts:
    """Of two single steps: nothing waits, and all figures move with the steps."""
    first, after = (step_spread(cost, step) or NOTHING_KNOWN for step in (prompts, decodes))
    chunk = max((part.new_tokens for part in prompts.slices), default=0)
    tokens = max(sum(part.new_tokens for part in prompts.slices), decodes.decodes)
    sizes = Sizes(decodes.decodes, decodes.longest_tokens, chunk, tokens)
    return Facts(Sensitivity(), first, after, tuple(beyond_kernels(cost, sizes)))


NOTHING_KNOWN = StepSpread(0.0, 0.0, 0.0)
"""Of steps that do not occur, and of cost models that do not say how wrong they may be: their error is all in what runs leave."""
