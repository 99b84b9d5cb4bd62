"""How far off the difference of two predictions is: what does not cancel between runs that share model, device and engine.

Of two measured runs that share these, with predictions p1, p2 and errors e1, e2 (logarithms), the difference is off by |e1 - e2|. Where the
predictions are nearly equal that is the scatter of measurements (`floor`); the further apart they are the more it is (`slope`, of the
distance |ln(p1 / p2)|), since what differs between the runs is simulated with an error of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from simserve.uncertainty.belief import LEVEL
from simserve.uncertainty.learning import Row

ALL_THREE, MODEL_AND_DEVICE = "same model, device and engine", "same model and device"

NEARLY_EQUAL = 0.1
"""ln of the ratio of predictions that count as equal: a tenth, the size of the scatter that is asked about."""

_MOST_OF = 40


class Remains(NamedTuple):
    """Of a kind of figure: 80 % of the differences of pairs are off by less than `floor` + `slope` |ln(p1 / p2)|."""

    floor: float
    slope: float
    models: int
    pairs: int

    def half(self, log_ratio: float) -> float:
        """Half-width of the interval of a difference of this size."""
        return self.floor + self.slope * abs(log_ratio)


def learned_differences(rows: Sequence[Row], settings: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str], Remains]:
    """By kind of figure and what pairs share.

    settings  model, device and engine profile of each row. Pairs are of one figure; each model weighs alike
    """
    found: dict[tuple[str, str], Remains] = {}
    for shared, keys in ((ALL_THREE, (0, 1, 2)), (MODEL_AND_DEVICE, (0, 1))):
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for k, (row, setting) in enumerate(zip(rows, settings, strict=True)):
            groups[(row.path[0], row.figure, *(setting[i] for i in keys))].append(k)
        pairs: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
        for (kind, _, model, *_rest), members in groups.items():
            for a, b in _pairs(members):
                if shared == ALL_THREE or settings[a][2] != settings[b][2]:
                    apart = abs(rows[a].log_predicted - rows[b].log_predicted)
                    pairs[kind].append((model, apart, abs(rows[a].log_error - rows[b].log_error)))
        found |= {(kind, shared): _remains(own) for kind, own in pairs.items()}
    return found


def _remains(pairs: Sequence[tuple[str, float, float]]) -> Remains:
    near = [(model, off) for model, apart, off in pairs if apart <= NEARLY_EQUAL]
    floor = _quantile(near) if near else _quantile([(model, off) for model, _, off in pairs])
    slope = _quantile([(model, max(off - floor, 0.0) / apart) for model, apart, off in pairs if apart > NEARLY_EQUAL])
    return Remains(floor, slope, len({model for model, _, _ in pairs}), len(pairs))


def _quantile(values: Sequence[tuple[str, float]]) -> float:
    """The 80 % quantile, each model alike; 0 of nothing."""
    if not values:
        return 0.0
    of_model: dict[str, int] = defaultdict(int)
    for model, _ in values:
        of_model[model] += 1
    ordered = sorted(values, key=lambda one: one[1])
    below = np.cumsum([1.0 / of_model[model] for model, _ in ordered])
    return float(ordered[min(int(np.searchsorted(below, LEVEL * below[-1])), len(ordered) - 1)][1])


def _pairs(members: Sequence[int]) -> Iterable[tuple[int, int]]:
    """All pairs of so many members, spread evenly."""
    kept = [members[round(k)] for k in np.linspace(0, len(members) - 1, min(len(members), _MOST_OF))]
    return ((a, b) for i, a in enumerate(kept) for b in kept[i + 1 :])
