"""Measured runs and intervals: outcomes as rows that intervals are learned from, and the intervals that such runs have."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from simserve.config.engine_profile import load_engine
from simserve.model import load_model
from simserve.uncertainty import residuals
from simserve.uncertainty.facts import Facts, of_numbers
from simserve.uncertainty.kinds import DEVICES_DECIDE, RATE, kind_of
from simserve.uncertainty.label import Known, label_of
from simserve.uncertainty.learning import Row
from simserve.uncertainty.run import relative_of
from simserve.validation.accuracy import accuracy_of
from simserve.validation.case import Case
from simserve.validation.evaluate import Outcome
from simserve.validation.split import model_group

Lengths = Mapping[tuple[str, str], Mapping[str, float]]
"""(engine profile, device) -> the largest mean `prompt` and `output` tokens of measured runs."""


def rows_of(outcomes: Iterable[Outcome], *, measured: bool) -> list[Row]:
    """A row for each measured metric that was predicted and has an interval.

    measured  whether the runs' engine, device and model are in the record (the predictions knew other runs of the model), or were left out
    """
    known = [outcome for outcome in outcomes if outcome.predicted and not outcome.skip]
    seen = {model: lengths_of(o.case for o in known if model_group(o.case) != model) for model in {model_group(o.case) for o in known}}
    rows = []
    for outcome in known:
        case, facts = outcome.case, of_numbers(outcome.predicted)
        if facts is None:
            continue
        label = label_of_case(case, facts, {} if measured else seen[model_group(case)], measured=measured)
        for metric, value in case.measured.items():
            kind, predicted = kind_of(metric, facts), outcome.predicted.get(metric, 0.0)
            follows = kind is not None and kind.reacts >= (DEVICES_DECIDE if kind.name == RATE else 0.0)
            if kind is not None and follows and predicted > 0 and value > 0 and not metric.startswith("total_"):
                path = (kind.name, sparsity(case.model), label, family(case.profile))
                run = f"{case.dataset}/{case.run}"
                rows.append(
                    Row(path, model_group(case), run, math.log(value / predicted), kind.reacts, kind.steps.log, metric, math.log(predicted))
                )
    return rows


class Judged(NamedTuple):
    """A measured figure of a run and the 80 % interval of its prediction."""

    metric: str
    measured: float
    predicted: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval."""
        return self.low <= self.measured <= self.high


def judged(outcome: Outcome) -> tuple[str, list[Judged]]:
    """The label of a run like this one, and each figure that was measured, predicted and has an interval; ("", []) without a prediction."""
    case, facts, known = outcome.case, of_numbers(outcome.predicted), residuals.load()
    if facts is None or outcome.skip:
        return "", []
    measured = accuracy_of(case.profile, case.gpu, case.model) is not None
    label = label_of_case(case, facts, known.lengths, measured=measured)
    group = (sparsity(case.model), label, family(case.profile))
    found = []
    for metric, value in case.measured.items():
        predicted, ends = outcome.predicted.get(metric), relative_of(kind_of(metric, facts), group)
        if predicted and ends is not None:
            found.append(Judged(metric, value, predicted, predicted * ends[0], predicted * ends[1]))
    return label, found


def label_of_case(case: Case, facts: Facts, seen: Lengths, *, measured: bool) -> str:
    """The label that a run like this case has."""
    profile = load_engine(case.profile)
    known = Known(
        case.profile,
        case.gpu,
        case.model,
        int(measured),
        profile.validated,
        profile.verdict.words,
        facts.unmeasured,
        facts.beyond,
        {"prompt": case.load.prompt.mean, "output": case.load.output.mean},
        seen.get((case.profile, case.gpu), {}),
    )
    return label_of(known)[0]


def lengths_of(cases: Iterable[Case]) -> dict[tuple[str, str], dict[str, float]]:
    """The largest mean lengths by engine profile and device."""
    out: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: {"prompt": 0.0, "output": 0.0})
    for case in cases:
        found = out[case.profile, case.gpu]
        found["prompt"], found["output"] = max(found["prompt"], case.load.prompt.mean), max(found["output"], case.load.output.mean)
    return dict(out)


def sparsity(model: str) -> str:
    """`experts` or `dense`."""
    return "experts" if load_model(model).experts is not None else "dense"


def family(profile: str) -> str:
    """The engine of a profile, without its versions: `vllm-0.19` -> `vllm`."""
    return str(load_engine(profile).engine).lower()
