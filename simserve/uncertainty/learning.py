"""How far off figures are beyond what kernels explain, learned from measured runs.

A row is off by e = ln(measured / predicted). Its figure moves A times as much as its steps (`sensitivity`), whose kernels explain a
deviation k. The 80 % interval of ln(measured / predicted) is [-A sqrt((z k)^2 + low^2), A sqrt((z k)^2 + high^2)], and `low` and `high` are
what is learned: what remains of a row is e / A with (z k)^2 taken off its square, and a group's are the 10 and 90 % quantiles of that
(split conformal prediction, Vovk et al. 2005, with this score; neither is below 0, so the prediction itself is always inside). Each model
weighs alike in a group, each run of a model alike, each row of a run alike. Models are few, and the quantiles of few are too near: which
quantiles hold 80 % of a model that was left out is found by leaving out each.

Groups lie in each other: rows of a kind of figure, of dense models or of those with experts, which are never mixed (steps of the latter are
made of kernels and exchanges that those of the former do not have); of these a label's; of these an engine's. The quantile of a group is
that of a mixture: its own rows with weight n / (n + pull), n its models, the group around it with the rest. A group with few models is thus
like the one around it. `pull` is what predicts models best that were left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.uncertainty.belief import LABELS, LEVEL

F64 = NDArray[np.float64]

Z = 1.2816
"""Standard deviations of a normal distribution that hold 80 % of it."""

PULLS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Models' worth of the group around that are tried."""

TAILS = (0.2, 0.18, 0.16, 0.14, 0.12, 0.1, 0.09, 0.08, 0.07, 0.06, 0.05, 0.04, 0.03, 0.02)
"""Quantiles that are tried for the ends of the intervals."""

FAR = math.log(2.0)
"""How far outside its interval a row counts at most when pulls are chosen: a model that is off by more must not decide alone."""

LEAST_MODELS = 5
"""Models that a kind of figure needs to be learned."""

Path = tuple[str, ...]
"""Kind of figure, dense or experts, label, engine."""


class Row(NamedTuple):
    """A figure of a measured run.

    path       the groups that it lies in, from the widest to the narrowest
    model, run  what weighs alike
    log_error  ln(measured / predicted)
    reacts     how many per cent the figure moves when steps take one per cent longer
    kernels    standard deviation of ln(true / predicted) of its steps from their kernels
    figure     its name; log_predicted: ln of its prediction
    """

    path: Path
    model: str
    run: str
    log_error: float
    reacts: float
    kernels: float
    figure: str = ""
    log_predicted: float = 0.0


class Spread(NamedTuple):
    """Of a group: what remains beside the kernels, in logarithms of step time below and above the prediction, and what it rests on."""

    low: float
    high: float
    models: int
    rows: int


class Halves(NamedTuple):
    """How far the interval of ln(true / predicted) reaches below and above 0."""

    low: float
    high: float

    def hold(self, log_error: float) -> bool:
        """Whether it is inside."""
        return -self.low <= log_error <= self.high


def halves(reacts: float, kernels: float, remains: Spread) -> Halves:
    """Of a figure that moves so much with its steps, whose kernels are so sure, in a group of which so much remains."""
    return Halves(*(reacts * math.hypot(Z * kernels, side) for side in (remains.low, remains.high)))


class Choice(NamedTuple):
    """How groups are learned: the models' worth of the group around, and the part of the models that may lie beyond either end."""

    pull: float
    tail: float


def learned(rows: Sequence[Row], choice: Choice) -> dict[Path, Spread]:
    """The spread of every group of these rows, down the paths that occur; along the labels none is narrower than the one before."""
    return _Table(rows).spreads(choice)


def best_choice(rows: Sequence[Row]) -> tuple[Choice, float]:
    """What predicts models best that were left out, and the part of their rows inside (`_judged`).

    For each pull the tail whose intervals hold as many of these as they should; of these the pull that scores best (Gneiting and Raftery
    2007: the width, and 2 / 0.2 of the distance for a row outside).
    """
    tables = _without_each(rows)
    best: tuple[float, Choice, float] | None = None
    for pull in PULLS:
        tried = [(Choice(pull, tail), *_judged(tables, Choice(pull, tail))) for tail in TAILS]
        choice, score, inside = min(tried, key=lambda one: abs(one[2] - LEVEL))
        if best is None or score < best[0]:
            best = (score, choice, inside)
    assert best is not None
    return best[1], best[2]


def without_own_model(rows: Sequence[Row], choice: Choice) -> Iterator[tuple[Row, Halves]]:
    """Each row with its interval learned from the rows of all other models."""
    for table, own in _without_each(rows):
        yield from _intervals(table, own, choice)


def _without_each(rows: Sequence[Row]) -> list[tuple[_Table, list[Row]]]:
    """For each model, the table of all others and its own rows."""
    models: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        models[row.model].append(row)
    others = {model: [row for row in rows if row.model != model] for model in sorted(models)}
    return [(_Table(kept), models[model]) for model, kept in others.items() if kept]


def _intervals(table: _Table, own: Sequence[Row], choice: Choice) -> Iterator[tuple[Row, Halves]]:
    spreads = table.spreads(choice)
    for row in own:
        spread = spread_at(spreads, row.path)
        if spread is not None:
            yield row, halves(row.reacts, row.kernels, spread)


def _judged(tables: Sequence[tuple[_Table, list[Row]]], choice: Choice) -> tuple[float, float]:
    """The score of a choice, and the part of the rows inside: with each model alike or with each row alike, whichever is less."""
    scores: list[float] = []
    inside: list[list[bool]] = []
    for table, own in tables:
        found = list(_intervals(table, own, choice))
        out = [min(max(row.log_error - ends.high, -ends.low - row.log_error, 0.0), FAR) for row, ends in found]
        if found:
            widths = [ends.low + ends.high for _, ends in found]
            scores.append(float(np.mean(widths) + 2.0 / (1.0 - LEVEL) * np.mean(out)))
            inside.append([far == 0.0 for far in out])
    alike = float(np.mean([np.mean(of_model) for of_model in inside]))
    return float(np.mean(scores)), min(alike, float(np.mean([one for of_model in inside for one in of_model])))


def spread_at(found: Mapping[Path, Spread], path: Path) -> Spread | None:
    """Of the narrowest group that is known along a path; a label that no row has takes that of the next less believable, or of the last."""
    for end in range(len(path), 0, -1):
        if path[:end] in found:
            if end == 2 < len(path):
                return _of_near_label(found, path) or found[path[:end]]
            return found[path[:end]]
    return None


def _of_near_label(found: Mapping[Path, Spread], path: Path) -> Spread | None:
    at = LABELS.index(path[2])
    for label in (*LABELS[at + 1 :], *reversed(LABELS[:at])):
        if (*path[:2], label) in found:
            return spread_at(found, (*path[:2], label, *path[3:]))
    return None


class _Table:
    """Rows as columns: scores, and by group which rows are in it with what weight."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._scores = np.array([_score(row) for row in rows])
        self._order = np.argsort(self._scores, kind="stable")
        members: dict[Path, list[int]] = defaultdict(list)
        for k, row in enumerate(rows):
            for end in range(min(2, len(row.path)), len(row.path) + 1):
                members[row.path[:end]].append(k)
        self._members = {path: np.array(own) for path, own in members.items()}
        self._models = {path: len({rows[k].model for k in own}) for path, own in members.items()}
        self._weights = {path: _alike([rows[k] for k in own]) for path, own in members.items()}
        self._below: dict[tuple[Path, float], F64] = {}

    def spreads(self, choice: Choice) -> dict[Path, Spread]:
        """Of every group."""
        return _widening({path: self._spread(path, choice) for path in self._members})

    def _spread(self, path: Path, choice: Choice) -> Spread:
        below, ordered = self._mixture(path, choice.pull), self._scores[self._order]
        ends = (ordered[min(int(np.searchsorted(below, q)), len(ordered) - 1)] for q in (choice.tail, 1.0 - choice.tail))
        low, high = (max(float(end) * sign, 0.0) for end, sign in zip(ends, (-1.0, 1.0), strict=True))
        return Spread(low, high, self._models[path], len(self._members[path]))

    def _mixture(self, path: Path, pull: float) -> F64:
        """The distribution of a group's scores, by all scores in their order."""
        known = self._below.get((path, pull))
        if known is None:
            weights, left = np.zeros(len(self._scores)), 1.0
            groups = [path[:end] for end in range(len(path), 0, -1) if path[:end] in self._members]
            for group in groups:
                own = left * (self._models[group] / (self._models[group] + pull) if group != groups[-1] else 1.0)
                weights[self._members[group]] += own * self._weights[group]
                left -= own
            below = np.cumsum(weights[self._order])
            known = self._below[path, pull] = below / below[-1]
        return known


def _score(row: Row) -> float:
    """What remains of a row's error, with its sign."""
    own = row.log_error / row.reacts
    return math.copysign(math.sqrt(max(own * own - (Z * row.kernels) ** 2, 0.0)), own)


def _alike(rows: Sequence[Row]) -> F64:
    """Weights that add up to 1."""
    runs: dict[tuple[str, str], int] = defaultdict(int)
    models: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        runs[row.model, row.run] += 1
        models[row.model].add(row.run)
    return np.array([1.0 / len(models) / len(models[row.model]) / runs[row.model, row.run] for row in rows])


def _widening(found: dict[Path, Spread]) -> dict[Path, Spread]:
    """No label is narrower than a more believable one of the same groups."""
    out = dict(found)
    for kind, sparse, *rest in {(*path[:2], *path[3:]) for path in found if len(path) > 2}:
        low = high = 0.0
        for label in LABELS:
            path = (kind, sparse, label, *rest)
            if path in out:
                low, high = max(low, out[path].low), max(high, out[path].high)
                out[path] = out[path]._replace(low=low, high=high)
    return out
