"""`trace info` tells the truth about traces whose figures are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from simserve.workload.plot import plot_trace
from simserve.workload.requests import PrefixBlocks, RequestTable
from simserve.workload.statistics import index_of_dispersion, prefix_reuse, trace_statistics
from simserve.workload.trace import read_trace
from tests.workload.traces import shared


def test_dispersion_of_regular_and_clumped_arrivals():
    assert index_of_dispersion(np.arange(0, 1000.0), 10) == 0
    # All ten arrivals of each ten windows in one of them: mean 1, variance 9.
    clumped = np.repeat(np.arange(0, 1000, 100.0), 10)
    assert index_of_dispersion(clumped, 10, 1000) == pytest.approx(9)
    assert index_of_dispersion(np.array([1.0, 2.0]), 3600) is None


def test_prefix_reuse_stops_at_the_first_miss():
    # Row 1 shares two blocks with row 0, then differs; its last id occurred, but after a miss.
    prefix = PrefixBlocks(np.array([0, 3, 7]), np.array([1, 2, 3, 1, 2, 9, 3]), 10)
    reuse = prefix_reuse(prefix, np.array([30, 40]))
    assert reuse["block_hit_ratio"] == pytest.approx(2 / 7) and reuse["token_hit_ratio"] == pytest.approx(20 / 70)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "ratio", "unique"), [("conversation", 0.366, 182_790), ("synthetic", 0.640, 43_924)])
def test_mooncake_reuse_is_the_published_one(name, ratio, unique):
    s = trace_statistics(read_trace(shared(f"mooncake/{name}_trace.jsonl.gz")))
    assert round(s["prefix"]["block_hit_ratio"], 3) == ratio and s["prefix"]["unique_blocks"] == unique


@pytest.mark.shared
def test_burstgpt_v3_sessions_and_week_one():
    s = trace_statistics(read_trace(shared("burstgpt/BurstGPT_3_first400.csv.gz")))["sessions"]
    assert (s["sessions"], s["rows_in_sessions"], s["turns"]["max"]) == (135, 394, 24)
    assert s["single_turn_fraction"] == pytest.approx(59 / 135) and s["gap_s"]["p50"] == pytest.approx(123)
    week = trace_statistics(read_trace(shared("burstgpt/BurstGPT_1_first7days.csv.gz"), log_type="Conversation log"))
    dispersion = week["arrivals"]["index_of_dispersion"]
    for scale, value in (("1", 1.02), ("10", 1.22), ("60", 2.6), ("600", 16), ("3600", 79)):
        assert dispersion[scale] == pytest.approx(value, rel=0.03)


def test_statistics_are_json_and_survive_odd_tables(tmp_path):
    one = RequestTable.build(np.zeros(1), np.array([0]), np.array([0]))
    empty = RequestTable.build(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    for t in (one, empty):
        json.dumps(trace_statistics(t), allow_nan=False)
        assert plot_trace(t, tmp_path / "p.png", "odd").stat().st_size > 1000
