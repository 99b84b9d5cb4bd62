"""Arrival processes. Each kind is its parameters and one rule; `arrival_times` draws from any of them."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from simserve.bounds import LEAST_RATE_PER_S, MOST_RATE_PER_S, MOST_S
from simserve.errors import ConfigError
from simserve.workload.requests import F64

_Rate = Annotated[float, Field(ge=LEAST_RATE_PER_S, le=MOST_RATE_PER_S, allow_inf_nan=False)]
_Stretch = Annotated[float, Field(ge=1e-6, le=MOST_S, allow_inf_nan=False)]


class _Arrivals(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Renewal(_Arrivals):
    rate_per_s: _Rate = Field(description="mean arrivals per second")

    def mean_rate_per_s(self) -> float:
        """Arrivals per second in the long run."""
        return self.rate_per_s

    def unit_gaps(self, rng: np.random.Generator, n: int) -> F64:
        """n gaps of mean 1."""
        raise NotImplementedError


class Constant(_Renewal):
    """Equal gaps."""

    kind: Literal["constant"] = "constant"

    def unit_gaps(self, rng: np.random.Generator, n: int) -> F64:
        return np.ones(n)


class Poisson(_Renewal):
    """Independent arrivals: exponential gaps, coefficient of variation 1."""

    kind: Literal["poisson"] = "poisson"

    def unit_gaps(self, rng: np.random.Generator, n: int) -> F64:
        return rng.standard_exponential(n)


class Gamma(_Renewal):
    """Gamma gaps: burstier than Poisson for cv > 1, more regular below (shape 1 / cv^2)."""

    kind: Literal["gamma"] = "gamma"
    # Beyond 100 (shape 1e-4) nine gaps of ten are below the smallest double; below 0.001 the gaps are equal for every purpose.
    cv: float = Field(ge=1e-3, le=100, allow_inf_nan=False, description="coefficient of variation of the gaps (1 = Poisson)")

    def unit_gaps(self, rng: np.random.Generator, n: int) -> F64:
        shape = 1.0 / self.cv**2
        return rng.gamma(shape, 1.0 / shape, n)


class Weibull(_Renewal):
    """Weibull gaps: heavy-tailed for shape < 1, Poisson for 1."""

    kind: Literal["weibull"] = "weibull"
    # The cv of shape 0.1 is 430; the mean of shape 0.006 is no double any more (gamma(171)).
    shape: float = Field(ge=0.1, le=1000, allow_inf_nan=False, description="shape of the Weibull gaps (1 = Poisson, below 1 = bursty)")

    def unit_gaps(self, rng: np.random.Generator, n: int) -> F64:
        from math import gamma

        gaps: F64 = rng.weibull(self.shape, n) / gamma(1.0 + 1.0 / self.shape)
        return gaps


class RatePiece(_Arrivals):
    """A stretch of constant rate."""

    duration_s: _Stretch = Field(description="length of the stretch, seconds")
    rate_per_s: float = Field(ge=0, le=MOST_RATE_PER_S, allow_inf_nan=False, description="mean arrivals per second in the stretch")


class Piecewise(_Arrivals):
    """Poisson with a rate that follows a list of stretches, again and again."""

    kind: Literal["piecewise"] = "piecewise"
    pieces: tuple[RatePiece, ...] = Field(min_length=1, description="the stretches of one cycle, in order")

    @model_validator(mode="after")
    def _some_rate(self) -> Piecewise:
        if not any(piece.rate_per_s > 0 for piece in self.pieces):
            raise ValueError("at least one stretch needs a rate above 0")
        if any(0 < piece.rate_per_s < LEAST_RATE_PER_S for piece in self.pieces):
            raise ValueError(f"the rate of a stretch is 0 or at least {LEAST_RATE_PER_S:g} per second")
        return self

    def mean_rate_per_s(self) -> float:
        """Arrivals per second in the long run."""
        times, expected = self.cycle()
        return float(expected[-1] / times[-1])

    def cycle(self) -> tuple[F64, F64]:
        """(times, expected arrivals by then) over one cycle, both from 0."""
        duration = np.array([piece.duration_s for piece in self.pieces])
        expected = duration * np.array([piece.rate_per_s for piece in self.pieces])
        return np.concatenate([[0.0], np.cumsum(duration)]), np.concatenate([[0.0], np.cumsum(expected)])


class Diurnal(_Arrivals):
    """Poisson with a sinusoidal rate over a day."""

    kind: Literal["diurnal"] = "diurnal"
    rate_per_s: _Rate = Field(description="mean arrivals per second over a whole period")
    peak_to_trough: float = Field(default=4.0, ge=1, le=1e6, allow_inf_nan=False, description="highest rate over lowest rate")
    period_s: _Stretch = Field(default=86400.0, description="length of one cycle, seconds")
    peak_s: float = Field(
        default=54000.0, ge=0, le=MOST_S, allow_inf_nan=False, description="time of the highest rate within the cycle, seconds"
    )

    def mean_rate_per_s(self) -> float:
        """Arrivals per second in the long run."""
        return self.rate_per_s

    def cycle(self) -> tuple[F64, F64]:
        """(times, expected arrivals by then) over one cycle, both from 0."""
        t = np.linspace(0.0, self.period_s, 1441)
        swing = (self.peak_to_trough - 1.0) / (self.peak_to_trough + 1.0)
        omega = 2.0 * np.pi / self.period_s
        phase = omega * self.peak_s
        # Integral of rate * (1 + swing * cos(omega * (t - peak))) from 0 to t.
        return t, self.rate_per_s * (t + swing / omega * (np.sin(omega * t - phase) + np.sin(phase)))


Arrivals = Annotated[Constant | Poisson | Gamma | Weibull | Piecewise | Diurnal, Field(discriminator="kind")]


def arrival_times(
    process: Constant | Poisson | Gamma | Weibull | Piecewise | Diurnal,
    rng: np.random.Generator,
    *,
    count: int | None = None,
    duration_s: float | None = None,
) -> F64:
    """Arrival times in seconds from 0, non-decreasing: `count` of them, or all before `duration_s`, or whichever ends first.

    The first arrival comes one gap after 0. Raises ConfigError when neither end is given.
    """
    if count is None and duration_s is None:
        raise ConfigError("arrivals: state how many requests (count) or for how long (duration_s)")
    arriving = Arriving(process, rng)
    if count is not None:
        out = arriving.next_s(count)
        return out if duration_s is None else out[out < duration_s]
    assert duration_s is not None
    chunks: list[F64] = []
    while True:
        n = int(arriving.rate_per_s * duration_s * 0.1 + 1000) if chunks else int(arriving.rate_per_s * duration_s * 1.1 + 1000)
        chunks.append(arriving.next_s(n))
        if chunks[-1][-1] >= duration_s:
            out = np.concatenate(chunks)
            return out[out < duration_s]


class Arriving:
    """Draws the arrivals of a process one after the other, the same in whatever portions."""

    def __init__(self, process: Constant | Poisson | Gamma | Weibull | Piecewise | Diurnal, rng: np.random.Generator) -> None:
        self._process, self._rng = process, rng
        self._total = 0.0
        """Of gaps of mean 1."""
        if isinstance(process, _Renewal):
            self.rate_per_s = process.rate_per_s
        else:
            self._times, self._expected = process.cycle()
            self.rate_per_s = float(self._expected[-1] / self._times[-1])

    def next_s(self, count: int) -> F64:
        """The next arrivals, in seconds from 0."""
        process = self._process
        gaps = process.unit_gaps(self._rng, count) if isinstance(process, _Renewal) else self._rng.standard_exponential(count)
        if not count:
            return gaps
        gaps[0] += self._total  # sums one after the other, as of all at once
        unit: F64 = np.cumsum(gaps)
        self._total = float(unit[-1])
        if isinstance(process, _Renewal):
            return unit / process.rate_per_s
        # A unit-rate Poisson process seen through the inverse of the expected count is Poisson with the wanted rate.
        cycles = np.floor(unit / self._expected[-1])
        when: F64 = cycles * self._times[-1] + np.interp(unit - cycles * self._expected[-1], self._expected, self._times)
        return when
