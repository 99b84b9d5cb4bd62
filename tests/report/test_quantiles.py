"""Percentiles have numpy's inverted_cdf definition, weighted or not."""

import unittest.mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.report import quantiles
from simserve.report.quantiles import NO_STATS, QUANTILES, describe, describe_weighted, weighted_cdf

positive = st.floats(0, 1e6, allow_subnormal=False)


def check(stats, sample):
    assert stats.count == len(sample)
    for name, q in QUANTILES:
        assert getattr(stats, name) == np.quantile(sample, q, method="inverted_cdf")
    assert stats.max == sample.max()
    np.testing.assert_allclose(stats.mean, sample.mean(), rtol=1e-12, atol=1e-300)


@given(st.lists(positive, min_size=1, max_size=200))
def test_stats_are_those_of_numpy(values):
    check(describe(np.array(values)), np.array(values))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(positive, st.integers(0, 9)), min_size=1, max_size=80), st.integers(1, 80))
def test_a_weight_is_a_number_of_copies_however_the_data_is_cut(pairs, chunk):
    values, weights = np.array([v for v, _ in pairs]), np.array([w for _, w in pairs])
    pieces = [(values[a : a + chunk], weights[a : a + chunk]) for a in range(0, len(values), chunk)]
    stats = describe_weighted(lambda: pieces)
    with unittest.mock.patch.object(quantiles, "_FEW", -1):  # by buckets, as a great many observations are
        by_buckets = describe_weighted(lambda: pieces)
    assert repr(by_buckets) == repr(stats), "bit for bit"
    if weights.sum() == 0:
        assert stats == NO_STATS or stats.count == 0
    else:
        check(stats, np.repeat(values, weights))


def test_nan_is_no_observation_and_nothing_has_no_percentile():
    assert describe(np.array([np.nan, 2.0])).count == 1
    nothing = describe(np.array([np.nan]))
    assert nothing.count == 0 and np.isnan(nothing.p50) and np.isnan(nothing.max)


def test_the_drawn_distribution_is_within_half_a_percent():
    values = np.random.default_rng(0).lognormal(-3, 1, 20_000)
    at, fraction = weighted_cdf(lambda: [(values, np.ones(len(values), dtype=np.int64))])
    for q in (0.1, 0.5, 0.9, 0.99):
        assert abs(at[np.searchsorted(fraction, q)] / np.quantile(values, q) - 1) < 0.006


def test_observations_of_0_are_drawn_at_0():
    """As the gaps between tokens of one step are; an axis of logarithms would begin at 1e-310 otherwise."""
    at, fraction = weighted_cdf(lambda: [(np.array([0.0, 0.01]), np.array([3, 1]))])
    assert at[0] == 0 and fraction.tolist() == [0.75, 1.0]
    assert 0.01 <= at[1] <= 0.0101
