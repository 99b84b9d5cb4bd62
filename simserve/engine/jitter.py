"""How the time of a step varies from step to step: the host's work, and stalls of it.

The devices do the same work in nearly the same time; the processes that plan steps, prepare inputs, launch and read results back do not:
they share cores, locks and caches with API servers, other engines and the kernel, and now and then they are taken off the core or collect
garbage. So of a step's seconds the *host's part* is multiplied by a lognormal factor of mean 1, and a few steps wait for a stall of
exponential length. The host's seconds were learned as means, stalls among them: what stalls add is taken from the steps, and the mean of a
step stays what the cost model says.

What a step draws depends on the seed, the lane and the number of the step in its lane, and on nothing else: a span of steps and the same
steps one by one get the same times, to the last bit (I7), and so do two runs that differ in something else.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from simserve.contracts.cost import F64
from simserve.errors import ConfigError
from simserve.speculation.draws import draws, key

STREAM = 0x4A49
"""Tells these draws from others of the same seed."""

FACTORS, STALLS = 1 << 12, 1 << 16
"""Equally likely values of the factor and of the stall: a draw of 53 bits takes its first 12 for the one, its last 16 for the other."""

FLOOR = 0.5
"""Least fraction of its mean time that a step takes: a cost model may charge less than the host's seconds that vary."""

_BLOCK_STEPS = 1024
_ARRAY_FROM = 48


@dataclass(frozen=True, slots=True)
class StepJitter:
    """How steps of an instance vary.

    step_s, decode_s   the host's seconds of a step, and of each decoding request in it, that vary (their means)
    spread             standard deviation of the logarithm of the factor on them
    stall_probability  of a step that waits for a stall
    stall_s            mean seconds of such a stall
    seed               of the draws
    Raises ConfigError for numbers that are negative, not finite, or no probability.
    """

    step_s: float
    decode_s: float = 0.0
    spread: float = 0.0
    stall_probability: float = 0.0
    stall_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("step_s", "decode_s", "spread", "stall_probability", "stall_s"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"jitter: {name} is {value}, it must be a finite number from 0 on")
        if self.stall_probability > 1.0:
            raise ConfigError(f"jitter: stall_probability is {self.stall_probability}, it must be at most 1")

    def of_lane(self, lane: int) -> LaneJitter:
        """The draws of a lane, by its number among all lanes of the run."""
        return LaneJitter(self, key(self.seed, lane, STREAM))


class LaneJitter:
    """The varied times of the steps of one lane."""

    __slots__ = ("_decode_s", "_factor_rows", "_factors", "_first", "_jitter", "_key", "_stall_rows", "_stalls", "_step_s")

    def __init__(self, jitter: StepJitter, of: int) -> None:
        self._jitter, self._key = jitter, of
        self._step_s, self._decode_s = jitter.step_s, jitter.decode_s
        self._fill(0, _BLOCK_STEPS)

    def _fill(self, first: int, steps: int) -> None:
        """Draws for the steps from `first` on: the change of the host's part in fractions of it, and that by stalls in seconds."""
        drawn = draws(self._key, first, steps)
        mean, stalls = stall_seconds(self._jitter.stall_probability, self._jitter.stall_s)
        factors = host_factors(self._jitter.spread)[drawn >> 41]
        self._first = first
        self._factor_rows = factors - 1.0
        self._stall_rows = stalls[drawn & (STALLS - 1)] - mean * factors
        self._factors, self._stalls = self._factor_rows.tolist(), self._stall_rows.tolist()

    def one(self, seconds: float, step: int, decodes: int) -> float:
        """Seconds of the step of that number, which takes `seconds` on average and in which so many requests decode."""
        place = step - self._first
        if not 0 <= place < len(self._factors):
            self._fill(step, _BLOCK_STEPS)
            place = 0
        varied = seconds + ((self._step_s + self._decode_s * decodes) * self._factors[place] + self._stalls[place])
        least = FLOOR * seconds
        return varied if varied > least else least

    def several(self, seconds: list[float] | F64, step: int, decodes: int) -> list[float] | F64:
        """`one` of consecutive steps from `step` on, bit for bit."""
        steps = len(seconds)
        place = step - self._first
        if not 0 <= place <= len(self._factors) - steps:
            self._fill(step, max(_BLOCK_STEPS, steps))
            place = 0
        host, end = self._step_s + self._decode_s * decodes, place + steps
        if steps < _ARRAY_FROM and isinstance(seconds, list):
            out = []
            for mean, factor, stall in zip(seconds, self._factors[place:end], self._stalls[place:end], strict=True):
                varied = mean + (host * factor + stall)
                least = FLOOR * mean
                out.append(varied if varied > least else least)
            return out
        means = np.asarray(seconds, dtype=np.float64)
        delays: F64 = host * self._factor_rows[place:end]
        delays += self._stall_rows[place:end]
        delays += means
        np.maximum(delays, FLOOR * means, out=delays)
        return delays


@functools.lru_cache(maxsize=64)
def host_factors(spread: float) -> F64:
    """The factor on the host's part: `FACTORS` equally likely values of a lognormal distribution, ascending, whose mean is 1."""
    normal = NormalDist()
    values = np.exp(spread * np.array([normal.inv_cdf((k + 0.5) / FACTORS) for k in range(FACTORS)]))
    return _kept(values / values.mean())


@functools.lru_cache(maxsize=64)
def stall_seconds(probability: float, mean_s: float) -> tuple[float, F64]:
    """Seconds that stalls add to a step, mean and `STALLS` equally likely values: mostly 0, else exponential with mean `mean_s`."""
    values = np.zeros(STALLS)
    above = (np.arange(STALLS) + 0.5) / STALLS
    stalled = above < probability
    values[stalled] = -mean_s * np.log(above[stalled] / probability)
    if stalled.any():  # so few values miss the mean a little
        values *= probability * mean_s / values.mean() if mean_s else 1.0
    return float(values.mean()), _kept(values)


def _kept(values: F64) -> F64:
    values.flags.writeable = False
    return values
