"""How far off figures are beyond what kernels explain, learned from measured runs.

A row is off by e = ln(measured / predicted). Its figure moves A times as much as its steps (`sensitivity`), whose kernels explain a
deviation k: its 80 % interval is predicted x exp(+-A sqrt((z k)^2 + r^2)), and r is what is learned: the least that would have covered the row is
r^2 = (e / A)^2 - (z k)^2, and the r of a group is the 80 % quantile of these (split conformal prediction, Vovk et al. 2005, with
this score). Each model weighs alike in a group, each run of a model alike, each row of a run alike.

Groups lie in each other: all rows of a kind of figure; of these a label's; of these dense models or those with experts; of these an engine's.
The quantile of a group is that of a mixture: its own rows with weight n / (n + pull), n its models, the group around it with the rest. A
group with few models is thus like the one around it. `pull` is what predicts models best that were left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.uncertainty.belief import LABELS, LEVEL

F64 = NDArray[np.float64]

Z = 1.2816
"""Standard deviations of a normal distribution that hold 80 % of it."""

PULLS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Models' worth of the group around that are tried."""

Path = tuple[str, ...]
"""Kind of figure, label, dense or experts, engine."""


class Row(NamedTuple):
    """A figure of a measured run.

    path       the groups that it lies in, from the widest to the narrowest
    model, run  what weighs alike
    log_error  ln(measured / predicted)
    reacts     how many per cent the figure moves when steps take one per cent longer
    kernels    standard deviation of ln(true / predicted) of its steps from their kernels
    figure     its name
    """

    path: Path
    model: str
    run: str
    log_error: float
    reacts: float
    kernels: float
    figure: str = ""


class Spread(NamedTuple):
    """Of a group: `log`, what remains beside the kernels in units of step time, and what it rests on."""

    log: float
    models: int
    rows: int


def half_width(reacts: float, kernels: float, remains: float) -> float:
    """Of the interval of ln(true / predicted)."""
    return reacts * math.hypot(Z * kernels, remains)


def learned(rows: Sequence[Row], pull: float) -> dict[Path, Spread]:
    """The spread of every group of these rows, down the paths that occur; along the labels none is narrower than the one before."""
    table = _Table(rows)
    return _widening({path: table.spread(path, pull) for path in table.groups})


def best_pull(rows: Sequence[Row]) -> tuple[float, dict[float, float]]:
    """The pull whose intervals score best on models that were left out, and the score of each (Gneiting and Raftery 2007: width, and
    2 / 0.2 of the distance for a row outside), each model alike."""
    scores = {}
    for pull in PULLS:
        of_models: dict[str, list[float]] = defaultdict(list)
        for row, half in without_own_model(rows, pull):
            outside = max(abs(row.log_error) - half, 0.0)
            of_models[row.model].append(2.0 * half + 2.0 / (1.0 - LEVEL) * outside)
        scores[pull] = float(np.mean([np.mean(values) for values in of_models.values()]))
    return min(scores, key=lambda pull: scores[pull]), scores


def without_own_model(rows: Sequence[Row], pull: float) -> Iterable[tuple[Row, float]]:
    """Each row with the half-width of its interval learned from the rows of all other models."""
    for model in sorted({row.model for row in rows}):
        found = learned([row for row in rows if row.model != model], pull)
        for row in rows:
            if row.model == model:
                spread = spread_at(found, row.path)
                if spread is not None:
                    yield row, half_width(row.reacts, row.kernels, spread.log)


def spread_at(found: Mapping[Path, Spread], path: Path) -> Spread | None:
    """Of the narrowest group that is known along a path; a label that no row has takes that of the next less believable, or the last."""
    for end in range(len(path), 0, -1):
        if path[:end] in found:
            if end == 1 and len(path) > 1:
                return _of_near_label(found, path) or found[path[:1]]
            return found[path[:end]]
    return None


def _of_near_label(found: Mapping[Path, Spread], path: Path) -> Spread | None:
    at = LABELS.index(path[1])
    for label in (*LABELS[at + 1 :], *reversed(LABELS[:at])):
        if (path[0], label) in found:
            return spread_at(found, (path[0], label, *path[2:]))
    return None


class _Table:
    """Rows as columns: scores, and by group which rows are in it with what weight."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._scores = np.array([_score(row) for row in rows])
        self._order = np.argsort(self._scores, kind="stable")
        self.groups: dict[Path, list[int]] = defaultdict(list)
        for k, row in enumerate(rows):
            for end in range(1, len(row.path) + 1):
                self.groups[row.path[:end]].append(k)
        self._models = {path: len({rows[k].model for k in members}) for path, members in self.groups.items()}
        self._weights = {path: _alike([rows[k] for k in members]) for path, members in self.groups.items()}

    def spread(self, path: Path, pull: float) -> Spread:
        weights = np.zeros(len(self._scores))
        left = 1.0
        for end in range(len(path), 0, -1):
            group = path[:end]
            n = self._models[group]
            own = left * (n / (n + pull) if end > 1 else 1.0)
            weights[self.groups[group]] += own * self._weights[group]
            left -= own
        ordered = weights[self._order]
        level = min(LEVEL * (1.0 + 1.0 / self._models[path[:1]]), 1.0)
        at = int(np.searchsorted(np.cumsum(ordered), level * ordered.sum()))
        score = float(self._scores[self._order[min(at, len(ordered) - 1)]])
        return Spread(math.sqrt(max(score, 0.0)), self._models[path], len(self.groups[path]))


def _score(row: Row) -> float:
    return (row.log_error / row.reacts) ** 2 - (Z * row.kernels) ** 2


def _alike(rows: Sequence[Row]) -> F64:
    """Weights that add up to 1."""
    runs: dict[tuple[str, str], int] = defaultdict(int)
    models: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        runs[row.model, row.run] += 1
        models[row.model].add(row.run)
    return np.array([1.0 / len(models) / len(models[row.model]) / runs[row.model, row.run] for row in rows])


def learned_differences(rows: Sequence[Row], settings: Sequence[tuple[str, str, str]]) -> dict[Path, Spread]:
    """What does not cancel between two runs that share things: the 80 % quantile of |e1 / A1 - e2 / A2| over pairs of rows of a kind.

    settings  model, device and engine profile of each row. Pairs are of one figure, and share all three (`ALL_THREE`) or model and device
              (`MODEL_AND_DEVICE`); each model weighs alike, and within it each setting
    """
    found: dict[Path, Spread] = {}
    for shared, keys in ((ALL_THREE, (0, 1, 2)), (MODEL_AND_DEVICE, (0, 1))):
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for k, (row, setting) in enumerate(zip(rows, settings, strict=True)):
            groups[(row.path[0], row.figure, *(setting[i] for i in keys))].append(k)
        of_kind: dict[str, list[Row]] = defaultdict(list)
        for group, members in groups.items():
            for a, b in _pairs(members):
                if shared == MODEL_AND_DEVICE and settings[a][2] == settings[b][2]:
                    continue
                apart = rows[a].log_error / rows[a].reacts - rows[b].log_error / rows[b].reacts
                of_kind[group[0]].append(Row((group[0],), group[2], " ".join(group), apart, 1.0, 0.0))
        for kind, own in of_kind.items():
            found[(kind, shared)] = learned(own, 1.0)[(kind,)]
    return found


ALL_THREE, MODEL_AND_DEVICE = "same model, device and engine", "same model and device"

_MOST_PAIRS_OF = 40


def _pairs(members: Sequence[int]) -> Iterable[tuple[int, int]]:
    """All pairs of so many members, spread evenly."""
    kept = [members[round(k)] for k in np.linspace(0, len(members) - 1, min(len(members), _MOST_PAIRS_OF))]
    return ((a, b) for i, a in enumerate(kept) for b in kept[i + 1 :])


def _widening(found: dict[Path, Spread]) -> dict[Path, Spread]:
    """No label is narrower than a more believable one of the same groups."""
    out = dict(found)
    for kind, *rest in {(path[0], *path[2:]) for path in found if len(path) > 1}:
        widest = 0.0
        for label in LABELS:
            path = (kind, label, *rest)
            if path in out:
                widest = max(widest, out[path].log)
                out[path] = out[path]._replace(log=widest)
    return out
