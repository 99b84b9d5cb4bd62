"""Intervals of measured runs: what they leave unexplained is learned, and how often the intervals hold on models that were left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.measured_runs.lessons import is_held_out
from simserve.uncertainty.cancelling import Remains, learned_differences
from simserve.uncertainty.learning import (
    LEAST_MODELS,
    Halves,
    Path,
    Row,
    Spread,
    best_choice,
    learned,
    without_own_model,
)
from simserve.uncertainty.residuals import Residuals, document
from simserve.validation.believed import lengths_of, rows_of
from simserve.validation.evaluate import Outcome
from simserve.validation.split import model_group

_HEAD = (
    "What measured runs leave unexplained beside their kernels, written by python -m benchmarks.measured_runs report",
    "(simserve/uncertainty/learning.py says how it is learned, docs/intervals.md what it is).",
)


class Judged(NamedTuple):
    """A row, and its interval learned without its model."""

    row: Row
    halves: Halves

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in it."""
        return self.halves.hold(self.row.log_error)


class Learned(NamedTuple):
    """What ships, and how it holds: `judged` are the rows of runs whose model was left out, of the overheads and of this."""

    text: str
    judged: list[Judged]


def learn_intervals(without_model: Sequence[Outcome], shipped: Sequence[Outcome]) -> Learned:
    """From the outcomes without each model, and for runs whose model is in the record from those of the check part."""
    unseen = rows_of(without_model, measured=False)
    seen = rows_of([outcome for outcome in shipped if is_held_out(outcome.case)], measured=True)
    spreads: dict[Path, Spread] = {}
    judged: list[Judged] = []
    notes = list(_HEAD)
    for kind, sparse in sorted({row.path[:2] for row in unseen}):
        own = [row for row in (*unseen, *seen) if row.path[:2] == (kind, sparse)]
        if len({row.model for row in own}) < LEAST_MODELS:
            continue
        choice, inside = best_choice(own)
        told = f"quantiles {choice.tail:g} and {1.0 - choice.tail:g} hold {100.0 * inside:.0f} % of models left out"
        notes.append(f"{kind}, {sparse}: a group is pulled by {choice.pull:g} models' worth of the one around it; {told}")
        spreads |= learned(own, choice)
        judged += [Judged(row, ends) for row, ends in without_own_model(own, choice) if row.path[2] != "measured"]
    differences = _differences(without_model)
    lengths = lengths_of(outcome.case for outcome in without_model if outcome.predicted)
    return Learned(document(Residuals(spreads, lengths, differences), notes), judged)


def _differences(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], Remains]:
    rows: list[Row] = []
    settings: list[tuple[str, str, str]] = []
    for outcome in outcomes:
        own = rows_of([outcome], measured=False)
        rows += own
        settings += [(model_group(outcome.case), outcome.case.gpu, outcome.case.profile)] * len(own)
    return learned_differences(rows, settings)


def coverage_table(judged: Sequence[Judged]) -> str:
    """By data set and kind of figure: how many figures there are, how many lie in their interval, and how wide these are."""
    lines = ["| data set | figures of | figures | in their interval | of the prediction, medians |", "|---|---|--:|--:|--:|"]
    groups: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for one in judged:
        dataset = one.row.run.split("/", 1)[0]
        groups[dataset, one.row.path[0]].append(one)
    for (dataset, kind), own in sorted(groups.items()):
        lines.append(f"| {dataset} | {KINDS[kind]} | {_cells(own)} |")
    lines.append(f"| all | | {_cells(judged)} |")
    return "\n".join(lines) + "\n"


def label_table(judged: Sequence[Judged]) -> str:
    """The same by label."""
    lines = ["| label, model | figures | in their interval | of the prediction, medians |", "|---|--:|--:|--:|"]
    for sparse, label in sorted({one.row.path[1:3] for one in judged}):
        lines.append(f"| {label}, {sparse} | {_cells([one for one in judged if one.row.path[1:3] == (sparse, label)])} |")
    return "\n".join(lines) + "\n"


KINDS: Mapping[str, str] = {
    "first": "first tokens",
    "first tail": "first tokens, tails",
    "next": "times per token",
    "next tail": "times per token, tails",
    "whole": "whole requests",
    "whole tail": "whole requests, tails",
    "rate": "rates and times of whole runs",
}


def sentence(judged: Sequence[Judged]) -> str:
    """How often intervals hold, in one."""
    models = len({one.row.model for one in judged})
    alike = f"each model weighing alike: {inside_percent(judged, alike=True):.0f} %"
    return (
        f"Of {len(judged):,} measured figures of {models} models, each left out of overheads and intervals alike,"
        f" {inside_percent(judged):.0f} % lie in the 80 % interval of their prediction ({alike})."
    )


def inside_percent(judged: Sequence[Judged], *, alike: bool = False) -> float:
    """Percent of the figures that lie in their interval; `alike`: each model weighs the same."""
    if not alike:
        return 100.0 * float(np.mean([one.inside for one in judged]))
    of_models: dict[str, list[bool]] = defaultdict(list)
    for one in judged:
        of_models[one.row.model].append(one.inside)
    return 100.0 * float(np.mean([np.mean(values) for values in of_models.values()]))


def _cells(judged: Sequence[Judged]) -> str:
    low, high = (np.exp(sign * float(np.median([one.halves[side] for one in judged]))) for side, sign in ((0, -1.0), (1, 1.0)))
    return f"{len(judged):,} | {inside_percent(judged):.0f} % | {low:.2f} to {high:.2f}"
