"""How many BurstGPT-like requests come when: the conversation rate, the API requests of each hour, the outages."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from simserve.workload.generators.burstgpt import facts
from simserve.workload.requests import F64, I64

STEP_S = 300  # the conversation rate is constant inside a step
_STEPS_PER_HOUR = facts.HOUR_S // STEP_S
_HOURS = facts.DAYS * 24


@dataclass(frozen=True, slots=True)
class Rates:
    """The random environment of one block of 61 days.

    conversation_per_step  expected conversation requests in each of 61 * 288 steps of 300 s; sums to the published total.
    api_per_hour           API requests in each of 1,464 hours.
    outage                 whether each 600 s window is an outage.
    """

    conversation_per_step: F64
    api_per_hour: I64
    outage: NDArray[np.bool_]


def draw_rates(rng: np.random.Generator, first_day: int) -> Rates:
    """The environment of the 61 days from `first_day` (a multiple of 61; the calendar of week days runs on)."""
    windows = facts.DAYS * facts.DAY_S // facts.OUTAGE_S
    return Rates(_conversation(rng, first_day), _api(rng, first_day), rng.random(windows) < facts.OUTAGE_FRACTION)


def _ar1(rng: np.random.Generator, n: int, variance: float, correlation_steps: float) -> F64:
    """A stationary Gaussian AR(1) of n steps."""
    rho = float(np.exp(-1.0 / correlation_steps))
    noise = (rng.standard_normal(n) * np.sqrt(variance)).tolist()
    kick = float(np.sqrt(1.0 - rho * rho))
    x = noise[0]
    out = [x]
    for e in noise[1:]:
        x = rho * x + kick * e
        out.append(x)
    return np.array(out)


def hourly_profile(first_day: int, days: int = facts.DAYS) -> F64:
    """Mean conversation requests of each hour of each day, shape (days, 24)."""
    day = first_day + np.arange(days)
    weekend = np.isin(day % 7, facts.WEEKEND_DAYS)
    shape = np.where(weekend[:, None], facts.WEEKEND_PER_HOUR, facts.WEEKDAY_PER_HOUR)
    shape = shape / shape.sum(axis=1, keepdims=True)
    late = np.clip((day % facts.DAYS - facts.DECLINE_FROM_DAY) / (facts.DAYS - 1 - facts.DECLINE_FROM_DAY), 0.0, 1.0)
    level = facts.PER_DAY_OF_WEEK[day % 7] * (1.0 - late * (1.0 - facts.DECLINE_TO))
    profile: F64 = shape * level[:, None]
    return profile


def _conversation(rng: np.random.Generator, first_day: int) -> F64:
    per_step = np.repeat(hourly_profile(first_day).ravel(), _STEPS_PER_HOUR) / _STEPS_PER_HOUR
    n = len(per_step)
    night = per_step * _STEPS_PER_HOUR < facts.NIGHT_BELOW_PER_HOUR
    fast = _ar1(rng, n, 1.0, facts.MULTIPLIER_FAST_S / STEP_S)
    fast_var = np.where(night, facts.MULTIPLIER_NIGHT_VAR, facts.MULTIPLIER_FAST_VAR)
    slow = _ar1(rng, n, facts.MULTIPLIER_SLOW_VAR, facts.MULTIPLIER_SLOW_S / STEP_S)
    day = np.repeat(rng.standard_normal(facts.DAYS) * np.sqrt(facts.MULTIPLIER_DAY_VAR), n // facts.DAYS)
    log = day + slow + fast * np.sqrt(fast_var) - (facts.MULTIPLIER_DAY_VAR + facts.MULTIPLIER_SLOW_VAR + fast_var) / 2
    rate = per_step * np.exp(log)
    scaled: F64 = rate * (facts.CONVERSATION_ROWS / rate.sum())
    return scaled


def _api(rng: np.random.Generator, first_day: int) -> I64:
    hour = np.arange(_HOURS) % 24
    normal = NormalDist()
    inner_var = 1.0 - facts.API_CYCLE_VAR
    zero_fraction = np.interp(np.arange(24), facts.API_ZERO_BY_HOUR_H, facts.API_ZERO_BY_HOUR)
    # The daily cycle is the shift of the latent mean that gives each hour of the day its share of silent hours.
    shift = np.array([-np.sqrt(inner_var) * normal.inv_cdf(float(p)) for p in zero_fraction])
    z = shift[hour] + _ar1(rng, _HOURS, *facts.API_SLOW) + _ar1(rng, _HOURS, *facts.API_FAST)
    if first_day == 0:
        early = z[: facts.API_ONSET_DAY * 24]
        silent = np.quantile(early, facts.API_ZERO_BEFORE_ONSET)
        threshold = np.quantile(z[facts.API_ONSET_DAY * 24 :], 0.37)  # 37 % of the hours after the onset are silent [H]
        early[:] = np.where(early < silent, early - 10.0, threshold + 0.2 * (early - silent))
    # The hours are ranked by the latent and get the published marginal exactly, so every seed has the published total and tail.
    rank = np.empty(_HOURS)
    rank[np.argsort(z, kind="stable")] = (np.arange(_HOURS) + 0.5) / _HOURS
    u = (rank - facts.API_ZERO_HOURS) / (1.0 - facts.API_ZERO_HOURS)
    count = np.where(u > 0, np.exp(np.interp(u, facts.API_HOUR_P, np.log(facts.API_HOUR_COUNT))), 0.0)
    # Linear interpolation of the log overshoots the published total by about 1 %; the large hours give it back.
    large = count > 100
    count[large] *= (facts.API_ROWS - count[~large].sum()) / count[large].sum()
    whole: I64 = np.maximum(np.rint(count), count > 0).astype(np.int64)
    return whole
