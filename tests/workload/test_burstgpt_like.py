"""The synthetic BurstGPT passes the checks that the facts about the real one imply (61 days, 1.43 million rows)."""

from __future__ import annotations

import time

import numpy as np
import pytest

from simserve.errors import ConfigError
from simserve.workload.generators.burstgpt import burstgpt_like, facts
from simserve.workload.generators.burstgpt.rates import hourly_profile
from simserve.workload.requests import RequestTable
from simserve.workload.statistics import index_of_dispersion, prefix_reuse
from tests.workload.traces import shared

WEEK_S = 7 * 86400


@pytest.fixture(scope="module", params=[0, 7])
def full(request) -> RequestTable:
    begin = time.perf_counter()
    t = burstgpt_like(seed=request.param)
    assert time.perf_counter() - begin < 10
    return t


def is_api(t: RequestTable) -> np.ndarray:
    return t.log_type.codes == t.log_type.names.index("API log")


def test_totals_days_and_week(full):
    api = is_api(full)
    assert np.count_nonzero(~api) == pytest.approx(facts.CONVERSATION_ROWS, rel=0.01)
    assert np.count_nonzero(api) == pytest.approx(facts.API_ROWS, rel=1e-3)
    day = (full.arrival_s // 86400).astype(int)
    conversations = np.bincount(day[~api], minlength=61)
    weekend = np.isin(np.arange(61) % 7, (3, 4))
    # 2,950 on a weekday, 1,520 on a weekend day
    assert conversations[~weekend].mean() == pytest.approx(2950, rel=0.08)
    assert conversations[weekend].mean() == pytest.approx(1520, rel=0.12)
    # Peak and trough of the weekday profile
    hour = (full.arrival_s[~api] % 86400 // 3600).astype(int)
    by_hour = np.bincount(hour[~weekend[day[~api]]], minlength=24)
    assert by_hour[[15, 16]].min() > by_hour[[10, 12]].max() > by_hour[12] > by_hour[8] > by_hour[5]
    # API traffic begins on day 9
    assert np.count_nonzero(api & (day < 7)) < 2000


def test_conversation_lengths_of_the_first_week(full):
    first = (full.arrival_s < WEEK_S) & ~is_api(full) & (full.output_tokens > 0)
    published = {  # in p25 p50 p90 p99, out p50 p90 p99, mean in, mean out, correlation
        "ChatGPT": ((108, 480, 1603, 1986), (243, 558, 992), 653, 275, 0.30),
        "GPT-4": ((163, 547, 1782, 2819), (235, 495, 767), 753, 254, 0.38),
    }
    for name, (p_in, p_out, mean_in, mean_out, r) in published.items():
        rows = first & (full.label_model.codes == full.label_model.names.index(name))
        prompt, output = full.prompt_tokens[rows], full.output_tokens[rows]
        assert np.quantile(prompt, (0.25, 0.5, 0.9, 0.99)) == pytest.approx(p_in, rel=0.10)
        assert np.quantile(output, (0.5, 0.9, 0.99)) == pytest.approx(p_out, rel=0.12)
        assert prompt.mean() == pytest.approx(mean_in, rel=0.05) and output.mean() == pytest.approx(mean_out, rel=0.05)
        assert np.corrcoef(prompt, output)[0, 1] == pytest.approx(r, abs=0.06)


def test_whole_file_means_and_total_tokens(full):
    ok = full.output_tokens > 0
    assert full.prompt_tokens[ok].mean() == pytest.approx(621, rel=0.02)
    assert full.output_tokens[ok].mean() == pytest.approx(126, rel=0.02)
    assert int((full.prompt_tokens + full.output_tokens).sum()) == pytest.approx(1.049e9, rel=0.02)


def test_conversations_are_poisson_by_the_second_and_bursty_by_the_hour(full):
    t = full.arrival_s[~is_api(full)]
    t = t[t < WEEK_S]
    published = {1: 1.02, 10: 1.22, 60: 2.6, 600: 16.0, 3600: 79.0}
    for scale, value in published.items():
        assert index_of_dispersion(t, scale, WEEK_S) == pytest.approx(value, rel=0.35 if scale > 10 else 0.1)


def test_api_hours_are_heavy_tailed_and_often_silent(full):
    hours = np.bincount((full.arrival_s[is_api(full)] // 3600).astype(int), minlength=1464)
    top = np.sort(hours)[::-1]
    for fraction, published in ((15, 0.20), (73, 0.47), (146, 0.65)):
        assert top[:fraction].sum() / top.sum() == pytest.approx(published, abs=0.03)
    assert (hours == 0).mean() == pytest.approx(0.434, abs=0.01)
    log = np.log1p(hours) - np.log1p(hours).mean()
    for lag, published in ((1, 0.79), (6, 0.36), (24, 0.47)):
        assert (log[lag:] * log[:-lag]).mean() / log.var() == pytest.approx(published, abs=0.12)


def test_gaps_and_densest_minute(full):
    gaps = np.diff(full.arrival_s)
    assert gaps.mean() == pytest.approx(3.69, rel=0.01)
    p50, p95, p99 = np.quantile(gaps, (0.5, 0.95, 0.99))
    assert p50 == 1 and p95 == pytest.approx(12, abs=2) and p99 == pytest.approx(52, rel=0.2)
    densest = max(np.bincount(((full.arrival_s + o) // 60).astype(int)).max() for o in (0, 15, 30, 45))
    assert 750 < densest < 1600  # the original has 1,136 to 1,250


def test_failures_are_rare_empty_and_clustered(full):
    failed = full.output_tokens == 0
    assert failed.mean() == pytest.approx(0.0178, rel=0.06)
    assert np.all(full.prompt_tokens[failed] == 0)
    conversation = failed[~is_api(full)]
    assert conversation.mean() == pytest.approx(0.0803, rel=0.06)
    assert conversation[1:][conversation[:-1]].mean() == pytest.approx(0.204, abs=0.04)


def test_any_stretch_is_the_same_rows_as_the_whole():
    whole, part = burstgpt_like(12, seed=3), burstgpt_like(1.5, seed=3, start_day=9.25)
    inside = (whole.arrival_s >= 9.25 * 86400) & (whole.arrival_s < 10.75 * 86400)
    assert len(part) > 100
    assert np.array_equal(whole.arrival_s[inside] - 9.25 * 86400, part.arrival_s)
    assert np.array_equal(whole.prompt_tokens[inside], part.prompt_tokens)


def test_seed_decides_everything():
    a, b, c = burstgpt_like(1, 5, 10), burstgpt_like(1, 5, 10), burstgpt_like(1, 6, 10)
    assert np.array_equal(a.arrival_s, b.arrival_s) and np.array_equal(a.output_tokens, b.output_tokens)
    assert len(a) != len(c) or not np.array_equal(a.arrival_s, c.arrival_s)


def test_beyond_day_61_traffic_goes_on_with_the_right_weekdays():
    t = burstgpt_like(7, start_day=61, api=False)
    day = np.bincount((t.arrival_s // 86400).astype(int), minlength=7)
    profile = hourly_profile(61).sum(axis=1)[:7]
    assert np.corrcoef(day, profile)[0, 1] > 0.7 and day.sum() == pytest.approx(profile.sum(), rel=0.25)


def test_sessions_grow_and_reuse_their_history():
    t = burstgpt_like(6, seed=1, start_day=3, api=False, sessions=True, prefix_block_tokens=16)
    numbers, turns = np.unique(t.session, return_counts=True)
    assert np.all(t.session >= 0) and numbers[0] == 0
    whole = turns[(turns > 0)]
    assert (whole == 1).mean() == pytest.approx(0.36, abs=0.06) and np.quantile(whole, 0.75) in (3, 4, 5)
    order = np.argsort(t.session, kind="stable")
    same = t.session[order][1:] == t.session[order][:-1]
    growth = np.diff(t.prompt_tokens[order])[same]
    gaps = np.diff(t.arrival_s[order])[same]
    assert np.median(growth) > 50 and (growth < 0).mean() < 0.35
    assert np.median(gaps) == pytest.approx(131, rel=0.35)
    reuse = prefix_reuse(t.prefix, t.prompt_tokens)
    assert 0.35 < reuse["token_hit_ratio"] < 0.9
    assert np.array_equal(np.diff(t.prefix.offsets), t.prompt_tokens // 16)


def test_impossible_stretches_are_refused():
    for bad in (
        {"days": 0},
        {"start_day": -1},
        {"days": float("inf")},
        {"prefix_block_tokens": 16},
        {"conversations": False, "api": False},
    ):
        with pytest.raises(ConfigError):
            burstgpt_like(**bad)


@pytest.mark.shared
def test_hourly_conversation_counts_spread_as_the_real_ones():
    rows = np.genfromtxt(shared("burstgpt/BurstGPT_1_hourly.csv.gz"), delimiter=",", names=True)
    real = rows["conversation"].reshape(61, 24)
    t = burstgpt_like(api=False)
    like = np.bincount((t.arrival_s // 3600).astype(int), minlength=1464).reshape(61, 24)
    weekend = np.isin(np.arange(61) % 7, (3, 4))
    for days in (weekend, ~weekend):
        assert np.corrcoef(real[days].mean(0), like[days].mean(0))[0, 1] > 0.97
    busy = real.mean(0) > 60

    def log_sd(x: np.ndarray) -> float:
        profile = np.where(weekend[:, None], x[weekend].mean(0), x[~weekend].mean(0))
        return float(np.log((x + 0.5) / (profile + 0.5))[:, busy].std())

    assert log_sd(like) == pytest.approx(log_sd(real), rel=0.25)


def test_the_bundled_sample_is_this_generators_output(tmp_path):
    from pathlib import Path

    from simserve.workload.trace import write_trace

    # The command in traces/README.md: --seed 0 --start-day 28.4583333 --days 1
    again = write_trace(burstgpt_like(1, 0, 28.4583333), tmp_path / "s.csv", schema="burstgpt")
    sample = Path(__file__).resolve().parents[2] / "traces" / "burstgpt-sample.csv"
    assert again.read_bytes() == sample.read_bytes()
    assert sample.stat().st_size < 1_000_000
