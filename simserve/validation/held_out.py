"""Errors of an engine profile's overheads on runs that they were not learned from, as the records that say whether it is validated.

The rule itself is `simserve.config.held_out`; nothing else writes these records.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from simserve.config.engine_profile import EngineProfile, load_engine
from simserve.config.held_out import LEAST_RUNS, HeldOut, MetricError
from simserve.errors import ConfigError
from simserve.files import yaml_text
from simserve.validation.case import Case
from simserve.validation.evaluate import Outcome, predict_one
from simserve.validation.fit import FITTED_METRICS, FitResult

FOLDS = 5
"""Parts into which runs are dealt: each is predicted with what the others teach."""

_NOTE = """\
# How the bundled engine profiles did on runs that their overheads were not learned from, written by
# python -m benchmarks.measured_runs report. The rule that makes `validated` of it: simserve/config/held_out.py.
"""


def held_out(outcomes: Iterable[Outcome], how: str) -> HeldOut:
    """The errors of these outcomes, none of which may be of a run that was learned from; not sealed yet.

    A run weighs the same however many rows it has: its error in a metric is the median of its rows, the metric's the median of the runs.
    """
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    runs, models, rows = set(), set(), 0
    for outcome in outcomes:
        found = {metric: error for metric, error in outcome.errors_percent().items() if metric in FITTED_METRICS}
        if not found:
            continue
        run = f"{outcome.case.dataset}/{outcome.case.run}"
        runs.add(run)
        models.add(outcome.case.model)
        rows += outcome.case.rows
        for metric, error in found.items():
            errors[metric][run].append(abs(error))
    metrics = {
        metric: MetricError(runs=len(of), median_percent=round(float(np.median([np.median(of_run) for of_run in of.values()])), 1))
        for metric, of in sorted(errors.items())
    }
    return HeldOut(runs=len(runs), rows=rows, models=len(models), metrics=metrics, how=how)


def bundled_records(outcomes: Iterable[Outcome], how: str) -> str:
    """The text of `config.held_out.RECORD`: a sealed entry for each profile that these outcomes are of."""
    by_profile: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_profile[outcome.case.profile].append(outcome)
    lines = [_NOTE + "engines:"]
    for name, own in sorted(by_profile.items()):
        found = held_out(own, how)
        if found.runs:
            lines.append(f"  {name}: {_as_yaml(found.sealed(load_engine(name).overheads))}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Folds:
    """What folds say of a fit: the errors of held-out runs, None with too few runs; `failed` are reasons why parts taught nothing."""

    found: HeldOut | None
    failed: tuple[str, ...] = ()


def by_folds(cases: Sequence[Case], fit: Callable[[list[Case]], FitResult]) -> Folds:
    """Predicts the runs of each fold with the overheads that `fit` learns from the others. Below `LEAST_RUNS` runs it asks nothing."""
    runs = list(dict.fromkeys(case.run for case in cases if not case.skip))
    if len(runs) < LEAST_RUNS:
        return Folds(None)
    outcomes: list[Outcome] = []
    failed: dict[str, None] = {}
    for fold in range(FOLDS):
        kept = set(runs[fold::FOLDS])
        try:
            learned = fit([case for case in cases if case.run not in kept])
            reason = learned.refusal
        except ConfigError as error:
            reason = str(error)
        if reason:
            failed[reason] = None
        else:
            outcomes += [predict_one(case, learned.overheads) for case in cases if case.run in kept]
    return Folds(held_out(outcomes, f"{FOLDS} folds of whole runs, each predicted with what the others teach"), tuple(failed))


def with_record(text: str, found: HeldOut | None, source: str) -> str:
    """The profile `text` with this record, sealed with the overheads that the text states; without one when it is None."""
    lines = [line for line in text.splitlines() if not line.startswith("held_out:")]
    if found is not None:
        data = yaml_text.parse("\n".join(lines), source).data
        profile = EngineProfile.model_validate({key: value for key, value in data.items() if key != "validated"})
        at = next(i for i, line in enumerate(lines) if re.match(r"sources:", line))
        lines.insert(at, f"held_out: {_as_yaml(found.sealed(profile.overheads))}")
    return "\n".join(lines) + "\n"


def _as_yaml(found: HeldOut) -> str:
    """On one line; JSON is YAML."""
    return json.dumps(found.model_dump(), ensure_ascii=False)
