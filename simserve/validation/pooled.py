"""Overheads of all engine profiles at once: a version is like its engine, an engine like the others, unless the runs say otherwise.

Partial pooling (Gelman and Hill, Data Analysis Using Regression and Multilevel/Hierarchical Models, chapter 12): the logarithm of each
parameter of a profile is drawn around that of its engine with standard deviation `between_versions`, an engine's around that of all engines
with `between_engines`, and that around the usual value of `physical`. A profile with many runs keeps what they say; one with few, or with
none, is shrunk to its engine. The two deviations are not chosen by eye: those are taken with which groups that were left out are predicted
best (`leave_out`).

The fit is least squares on log(predicted / measured) (maximum a posteriori of that model). Rows of one profile, model and device share the
errors of that model's kernels: many of them say little more about a level than one does, and much about what grows with batch and prompt
(compound symmetry: a deviation between models and one between a model's rows).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simserve.validation import physical
from simserve.validation.overhead_values import rounded
from simserve.validation.responses import Response

F64 = NDArray[np.float64]

MODEL_NOISE = {"ttft_mean": 0.27, "prompt_phase": 0.27}
OTHER_MODEL_NOISE = 0.12
"""Standard deviation between models of log(predicted / measured): what their kernels are off by, which no overhead explains and which all
rows of a profile, model and device share. From the median errors of fixed-concurrency runs on the check part, 18 % (first tokens) and 8 %
(the rest), as those of a normal distribution."""

WITHIN_FRACTION = 0.7
"""Standard deviation between the rows of a model, as a fraction of that between models (measured: 0.4 to 0.9)."""

_OUTLIER = 1.0
"""Residuals beyond so many deviations count linearly (pseudo-Huber): groups whose kernels are off must not bend the host."""


class Pooling(NamedTuple):
    """Standard deviations of the logarithms: of versions around their engine, of engines around all."""

    between_versions: float
    between_engines: float


Values = dict[str, dict[str, float]]
"""Seconds by profile and parameter."""


class PooledFit:
    """Fits the same parameters to any subset of responses.

    parameters  by profile
    engine_of   the engine of each profile
    """

    def __init__(self, parameters: Mapping[str, Sequence[str]], engine_of: Mapping[str, str]) -> None:
        self._engine_of = engine_of
        self._parameters = {profile: tuple(names) for profile, names in parameters.items()}
        self._place: dict[tuple[str, str, str], int] = {}
        for profile, names in self._parameters.items():
            for name in names:
                for key in (("profile", profile, name), ("engine", engine_of[profile], name), ("all", "", name)):
                    self._place.setdefault(key, len(self._place))

    def values(self, responses: Sequence[Response], pooling: Pooling, first: F64 | None = None) -> Values:
        """The most likely overheads of every profile, also of those without a response, to two digits. `first`: where to begin."""
        found = self.solution(responses, pooling, first)
        return {
            profile: rounded({name: physical.clipped(name, math.exp(found[self._place["profile", profile, name]])) for name in names})
            for profile, names in self._parameters.items()
        }

    def solution(self, responses: Sequence[Response], pooling: Pooling, first: F64 | None = None) -> F64:
        """The logarithms of all parameters, of profiles, of engines and of all engines; near those of a few responses fewer."""
        from scipy.optimize import least_squares

        usual = np.array([math.log(physical.RANGES[name].typical_s) for _, _, name in self._place])
        low = np.array([math.log(physical.RANGES[name].least_s) for _, _, name in self._place]) - 1e-9
        high = np.array([math.log(physical.RANGES[name].largest_s) for _, _, name in self._place]) + 1e-9
        problem = _Problem(responses, self._place, self._priors(pooling))
        start = usual if first is None else np.clip(first, low + 1e-6, high - 1e-6)
        found: F64 = least_squares(
            problem.residuals, start, problem.jacobian, bounds=(low, high), x_scale=1.0, ftol=1e-5, xtol=1e-4, max_nfev=60
        ).x
        return found

    def _priors(self, pooling: Pooling) -> list[tuple[int, int | None, float, float]]:
        """(parameter, what it is drawn around or None, the constant it is drawn around, deviation) of each."""
        found: list[tuple[int, int | None, float, float]] = []
        for (level, owner, name), place in self._place.items():
            if level == "profile":
                found.append((place, self._place["engine", self._engine_of[owner], name], 0.0, pooling.between_versions))
            elif level == "engine":
                found.append((place, self._place["all", "", name], 0.0, pooling.between_engines))
            else:
                allowed = physical.RANGES[name]
                found.append((place, None, math.log(allowed.typical_s), math.log(allowed.largest_s / allowed.least_s) / 4.0))
        return found


class _Problem:
    """Residuals of the responses and of the priors, and their derivatives."""

    def __init__(self, responses: Sequence[Response], place: Mapping[tuple[str, str, str], int], priors: Sequence[Any]) -> None:
        self._size, self._priors = len(place), priors
        rows = len(responses)
        self._seconds = np.array([r.seconds for r in responses])
        self._measured = np.array([r.measured for r in responses])
        keys = [(r.case.profile, r.case.model, r.case.gpu, r.metric) for r in responses]
        place_of = {key: k for k, key in enumerate(dict.fromkeys(keys))}
        self._group = np.array([place_of[key] for key in keys], dtype=int)
        self._members = np.bincount(self._group, minlength=len(place_of)).astype(float)
        model = np.array([MODEL_NOISE.get(r.metric, OTHER_MODEL_NOISE) for r in responses])
        self._noise = WITHIN_FRACTION * model
        # Inverse square root of w^2 I + m^2 11': what a group's rows have in common is divided by more than their own deviations are.
        self._shared = 1.0 - 1.0 / np.sqrt(1.0 + self._members[self._group] / WITHIN_FRACTION**2)
        entries = [
            (i, place["profile", r.case.profile, name], slope, r.at[name])
            for i, r in enumerate(responses)
            for name, slope in r.slopes.items()
        ]
        self._row = np.array([e[0] for e in entries], dtype=int)
        self._column = np.array([e[1] for e in entries], dtype=int)
        self._slope = np.array([e[2] for e in entries])
        self._at = np.array([e[3] for e in entries])
        self._rows = rows

    def residuals(self, x: F64) -> F64:
        z, _ = self._plain(x)
        priors = [(x[i] - (constant if j is None else x[j])) / deviation for i, j, constant, deviation in self._priors]
        return np.concatenate([_flattened(self._whitened(z)), priors])

    def jacobian(self, x: F64) -> F64:
        z, derivative = self._plain(x)
        plain = np.zeros((self._rows, self._size))
        np.add.at(plain, (self._row, self._column), derivative)
        found = np.zeros((self._rows + len(self._priors), self._size))
        found[: self._rows] = self._whitened(plain) * _flattened_slope(self._whitened(z))[:, None]
        for k, (i, j, _, deviation) in enumerate(self._priors, self._rows):
            found[k, i] = 1.0 / deviation
            if j is not None:
                found[k, j] = -1.0 / deviation
        return found

    def _whitened(self, z: F64) -> F64:
        """Values (or rows of derivatives) of all responses, made independent and of deviation 1."""
        totals = np.zeros((len(self._members), *z.shape[1:]))
        np.add.at(totals, self._group, z)
        tall = (slice(None),) + (None,) * (z.ndim - 1)
        means = totals / self._members[tall]
        found: F64 = (z - self._shared[tall] * means[self._group]) / self._noise[tall]
        return found

    def _plain(self, x: F64) -> tuple[F64, F64]:
        """log(predicted / measured) of each response, and its derivatives by the logarithms of the parameters, entry by entry."""
        values = np.exp(x[self._column])
        moved = self._seconds.copy()
        np.add.at(moved, self._row, self._slope * (values - self._at))
        least = 0.05 * self._seconds
        stopped = moved < least
        moved = np.where(stopped, least, moved)
        derivative = np.where(stopped[self._row], 0.0, self._slope * values / moved[self._row])
        return np.log(moved / self._measured), derivative


def _flattened(z: F64) -> F64:
    """Pseudo-Huber: the square of this is quadratic near 0 and linear far from it."""
    scaled = z / _OUTLIER
    found: F64 = np.sign(z) * _OUTLIER * np.sqrt(2.0 * (np.sqrt(1.0 + scaled**2) - 1.0))
    return found


def _flattened_slope(z: F64) -> F64:
    scaled = np.maximum(np.abs(z / _OUTLIER), 1e-4)  # below it the slope is 1 to 8 digits, and what follows would be 0 / 0
    root = np.sqrt(1.0 + scaled**2)
    found: F64 = scaled / (root * np.sqrt(2.0 * (root - 1.0)))
    return found
