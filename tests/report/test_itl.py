"""The token gaps computed from steps are those of the tokens written down one by one."""

import numpy as np
import pytest
from synthetic import poisson, serve

from simserve.engine import InstanceSpec, simulate
from simserve.policies.registry import scheduler_class
from simserve.report import itl
from simserve.report.itl import TokenGaps, tokens_between
from simserve.report.quantiles import QUANTILES
from simserve.workload.requests import RequestTable, Workload
from tests.engine.unrolled import token_times
from tests.reference.toy_cost import RoundCost


def gaps_of(times, rows=None):
    rows = range(len(times)) if rows is None else rows
    return np.concatenate([np.empty(0), *(np.diff(times[row]) for row in rows)])


@pytest.mark.parametrize("stall_every", [0, 2, 7, 50])
@pytest.mark.parametrize("slots", [1, 8, 64])
def test_distribution_is_exact(stall_every, slots):
    records, times = serve(*poisson(150, 12, seed=slots), slots=slots, stall_every=stall_every)
    expected = gaps_of(times)
    stats = TokenGaps.of(records).stats(np.ones(150, dtype=bool))
    assert stats.count == len(expected)
    assert [getattr(stats, name) for name, _ in QUANTILES] == [np.quantile(expected, q, method="inverted_cdf") for _, q in QUANTILES]
    assert stats.max == expected.max()
    assert stats.mean == pytest.approx(expected.mean(), rel=1e-12)


def test_distribution_of_some_requests_is_exact(two_classes):
    records, times = two_classes
    selected = np.random.default_rng(0).random(400) < 0.3
    expected = gaps_of(times, np.flatnonzero(selected))
    stats = TokenGaps.of(records).stats(selected)
    assert (stats.count, stats.p99, stats.max) == (len(expected), np.quantile(expected, 0.99, method="inverted_cdf"), expected.max())


def test_longest_gap_of_each_request(two_classes):
    records, times = two_classes
    expected = [np.diff(t).max() if len(t) > 1 else np.nan for t in times]
    np.testing.assert_array_equal(TokenGaps.of(records).longest_s(), expected)


def test_gaps_over_a_limit_of_each_request(two_classes):
    records, times = two_classes
    limit = np.where(np.arange(400) % 3 == 0, np.nan, np.where(np.arange(400) % 3 == 1, 0.016, 0.03))
    expected = [0 if np.isnan(x) else int((np.diff(t) > x).sum()) for t, x in zip(times, limit, strict=True)]
    np.testing.assert_array_equal(TokenGaps.of(records).count_over(limit), expected)


@pytest.mark.parametrize("window", [(0.0, 1e9), (5.0, 20.0), (13.37, 13.38)])
def test_tokens_in_a_stretch_of_time(two_classes, window):
    records, times = two_classes
    expected = sum(window[0] <= t <= window[1] for of_request in times for t in of_request)
    assert tokens_between(records, TokenGaps.of(records), *window) == expected


def test_cutting_into_pieces_changes_nothing(two_classes, monkeypatch):
    records, _ = two_classes
    everyone = np.ones(400, dtype=bool)
    whole = TokenGaps.of(records)
    stats, longest = whole.stats(everyone), whole.longest_s()
    monkeypatch.setattr(itl, "_CHUNK_TICKS", 13)
    monkeypatch.setattr(itl, "_CHUNK_SEGMENTS", 3)
    pieces = whole.stats(everyone)
    assert (pieces.count, pieces.p50, pieces.p99, pieces.max) == (stats.count, stats.p50, stats.p99, stats.max)
    np.testing.assert_array_equal(whole.longest_s(), longest)


def test_a_gap_may_be_many_times_as_long_as_all_before_it():
    """The first request has its first token after a moment; then the long prompt of the second is in its way."""
    cls = scheduler_class("vllm-v0")
    table = RequestTable.build(np.array([0.0, 0.1]), np.array([1, 900]), np.array([3, 2]))
    spec = InstanceSpec("i", cls(cls.Params()), RoundCost(), kv_blocks=1000, block_tokens=4)
    records = simulate(Workload(table), [spec])
    times = token_times(records)
    assert times[0][1] > 5 * times[0][0]
    gaps = TokenGaps.of(records)
    assert gaps.longest_s().tolist() == [float(np.diff(each).max()) for each in times]
    assert gaps.stats(np.array([True, False])).mean == np.diff(times[0]).mean()
