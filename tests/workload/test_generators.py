"""Arrival processes and length distributions have the moments their parameters promise."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from simserve.errors import ConfigError
from simserve.workload.generators.arrivals import Arrivals, Constant, Diurnal, Gamma, Piecewise, Poisson, RatePiece, Weibull, arrival_times
from simserve.workload.generators.lengths import Fixed, LengthDistribution, Lognormal, Normal, Uniform, Zipf
from simserve.workload.statistics import index_of_dispersion


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize(
    ("process", "cv"),
    [
        (Constant(rate_per_s=3.5), 0.0),
        (Poisson(rate_per_s=3.5), 1.0),
        (Gamma(rate_per_s=3.5, cv=2.0), 2.0),
        (Gamma(rate_per_s=3.5, cv=0.5), 0.5),
        # CV of Weibull with shape 1/2: sqrt(gamma(5) / gamma(3)^2 - 1) = sqrt(5)
        (Weibull(rate_per_s=3.5, shape=0.5), 5**0.5),
        (Weibull(rate_per_s=3.5, shape=1.0), 1.0),
    ],
)
def test_renewal_processes_have_their_rate_and_cv(process, cv):
    t = arrival_times(process, rng(), count=200_000)
    gaps = np.diff(t, prepend=0.0)
    assert np.all(gaps >= 0)
    assert 1 / gaps.mean() == pytest.approx(3.5, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03, abs=1e-6)


@pytest.mark.parametrize(
    "process", [Poisson(rate_per_s=20.0), Gamma(rate_per_s=20.0, cv=3.0), Diurnal(rate_per_s=20.0, period_s=100.0, peak_s=0)]
)
def test_a_duration_ends_the_process_and_keeps_its_rate(process):
    t = arrival_times(process, rng(1), duration_s=5000.0)
    assert t[-1] < 5000 and t[-1] > 4900 and np.all(np.diff(t) >= 0)
    assert len(t) / 5000 == pytest.approx(20, rel=0.05)


def test_poisson_counts_have_dispersion_one_at_every_scale():
    t = arrival_times(Poisson(rate_per_s=2.0), rng(2), duration_s=200_000)
    for scale in (0.5, 5, 50):
        assert index_of_dispersion(t, scale) == pytest.approx(1.0, abs=0.08)


def test_piecewise_rates_hold_piece_by_piece_and_repeat():
    process = Piecewise(
        pieces=(RatePiece(duration_s=10, rate_per_s=5), RatePiece(duration_s=20, rate_per_s=0), RatePiece(duration_s=5, rate_per_s=40))
    )
    t = arrival_times(process, rng(3), duration_s=35 * 400)
    phase = t % 35
    assert np.count_nonzero((phase > 10) & (phase < 30)) == 0
    assert np.count_nonzero(phase <= 10) / (400 * 10) == pytest.approx(5, rel=0.05)
    assert np.count_nonzero(phase >= 30) / (400 * 5) == pytest.approx(40, rel=0.05)
    # A count goes on as long as it takes, through the silent pieces.
    assert len(arrival_times(process, rng(3), count=1000)) == 1000


def test_diurnal_peak_and_trough():
    t = arrival_times(Diurnal(rate_per_s=1.0, peak_to_trough=4.0), rng(4), duration_s=86400 * 30)
    rate = np.bincount((t % 86400 // 3600).astype(int), minlength=24) / (30 * 3600)
    assert rate[15] == pytest.approx(1.6, rel=0.06) and rate[3] == pytest.approx(0.4, rel=0.06)
    assert np.argmax(rate) in (14, 15) and rate.mean() == pytest.approx(1.0, rel=0.01)


def test_processes_are_deterministic_by_seed():
    a, b, c = (arrival_times(Poisson(rate_per_s=1), rng(s), count=100) for s in (5, 5, 6))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_arrivals_need_an_end_and_sane_parameters():
    with pytest.raises(ConfigError, match="count"):
        arrival_times(Poisson(rate_per_s=1), rng())
    adapter = TypeAdapter(Arrivals)
    for bad in ({"kind": "poisson", "rate_per_s": 0}, {"kind": "poisson", "rate_per_s": float("nan")}, {"kind": "gamma", "rate_per_s": 1},
                {"kind": "poison", "rate_per_s": 1}, {"kind": "piecewise", "pieces": [{"duration_s": 1, "rate_per_s": 0}]},
                {"kind": "poisson", "rate_per_s": 1, "cv": 2}):  # fmt: skip
        with pytest.raises(ValidationError):
            adapter.validate_python(bad)


def test_length_distributions_have_their_moments():
    n = 200_000
    assert set(Fixed(tokens=7).sample(rng(), n)) == {7}
    u = Uniform(low_tokens=8, high_tokens=512).sample(rng(), n)
    assert u.min() == 8 and u.max() == 512 and u.mean() == pytest.approx(260, rel=0.01)
    x = Lognormal(median_tokens=400, sigma=1.0, max_tokens=10**7).sample(rng(), n)
    assert np.median(x) == pytest.approx(400, rel=0.02) and np.log(x).std() == pytest.approx(1.0, rel=0.02)
    g = Normal(mean_tokens=1200, sd_tokens=360).sample(rng(), n)
    assert g.mean() == pytest.approx(1200, rel=0.01) and g.std() == pytest.approx(360, rel=0.02) and g.min() >= 1
    assert Lognormal(median_tokens=400, sigma=2, min_tokens=10, max_tokens=500).sample(rng(), n).max() == 500


def test_zipf_probabilities_fall_as_a_power():
    z = Zipf(exponent=1.1, low_tokens=4, high_tokens=4096).sample(rng(), 400_000)
    p = np.bincount(z, minlength=4097) / len(z)
    weight = np.arange(4, 4097) ** -1.1
    assert p[4] == pytest.approx(4**-1.1 / weight.sum(), rel=0.02)
    assert p[4] / p[8] == pytest.approx(2**1.1, rel=0.05)
    assert z.min() == 4 and z.max() <= 4096
    with pytest.raises(ValidationError):
        TypeAdapter(LengthDistribution).validate_python({"kind": "uniform", "low_tokens": 9, "high_tokens": 3})
