"""When the requests of an open load come: Poisson, or as the benchmark client that made the load shapes them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simserve.validation.case import Load, Ramp

F64 = NDArray[np.float64]


def arrival_times(load: Load, rates: F64, rng: np.random.Generator) -> F64:
    """Arrival times in seconds, non-decreasing, of as many requests as `rates` has entries.

    rates  requests per second that each request belongs to, where no ramp says otherwise

    Gaps are independent and gamma-distributed with shape `burstiness` and mean 1 / rate, as in vLLM's `bench serve`
    (vllm/benchmarks/serve.py, get_request: shape = burstiness, scale = 1 / (rate x burstiness)); shape 1 is a Poisson process.
    """
    n = len(rates)
    shape = load.arrivals
    if shape is None:
        poisson: F64 = np.cumsum(rng.exponential(1.0, n) / rates)
        return poisson
    gaps = _unit_gaps(shape.burstiness, n, rng)
    ramp = shape.ramp
    if ramp is not None and ramp.kind == "seconds":
        times = _through_ramp(np.cumsum(gaps), ramp)
    else:
        times = np.cumsum(gaps / (rates if ramp is None else _ramped(ramp, n)))
    if shape.exact_rate and times[-1] > 0:
        times *= float(np.sum(1.0 / rates)) / times[-1]
    if shape.first_at_once:
        many = min(shape.first_at_once, n)
        times = np.concatenate([np.zeros(many), times[: n - many]])
    return times


def _unit_gaps(burstiness: float, n: int, rng: np.random.Generator) -> F64:
    """n gaps of mean 1."""
    if math.isinf(burstiness):
        return np.ones(n)
    if burstiness == 1.0:
        return rng.exponential(1.0, n)
    gaps: F64 = rng.gamma(burstiness, 1.0 / burstiness, n)
    return gaps


def _ramped(ramp: Ramp, n: int) -> F64:
    """The rate before each request of a ramp over requests (vllm/benchmarks/serve.py, _get_current_request_rate)."""
    progress = np.arange(n) / max(n - 1, 1)
    if ramp.kind == "linear":
        rates: F64 = ramp.start_per_s + (ramp.end_per_s - ramp.start_per_s) * progress
    else:
        rates = ramp.start_per_s * (ramp.end_per_s / ramp.start_per_s) ** progress
    return rates


def _through_ramp(unit: F64, ramp: Ramp) -> F64:
    """Times at which the expected number of arrivals of a rate linear in time reaches `unit` (time change of a renewal process).

    With slope a = (end - start) / duration, start x t + a t^2 / 2 arrivals are expected by t <= duration.
    """
    start, end, duration = ramp.start_per_s, ramp.end_per_s, ramp.duration_s
    at_end = duration * (start + end) / 2.0
    slope = (end - start) / duration
    inside = np.minimum(unit, at_end)
    # 2 u / (start + sqrt(start^2 + 2 a u)) is the root without cancellation
    early = 2.0 * inside / (start + np.sqrt(np.maximum(start**2 + 2.0 * slope * inside, 0.0)))
    times: F64 = np.where(unit <= at_end, early, duration + (unit - at_end) / end)
    return times
