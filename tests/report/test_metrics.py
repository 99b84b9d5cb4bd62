"""Metrics against their definitions, computed the slow way from token times."""

import time

import numpy as np
import pytest
from synthetic import poisson, serve

from simserve.engine.records import Status
from simserve.errors import ConfigError
from simserve.report import Result
from simserve.report.metrics import measure
from simserve.report.slo import normalize_limits


def test_request_columns_follow_their_definitions(two_classes, result):
    records, times = two_classes
    released = records.table.arrival_s
    columns = result.measurement.requests
    for row, tokens in enumerate(times):
        if not tokens:
            assert np.isnan([columns.ttft_s[row], columns.tpot_s[row], columns.e2e_s[row], columns.itl_max_s[row]]).all()
            continue
        assert columns.ttft_s[row] == tokens[0] - released[row]
        assert columns.e2e_s[row] == tokens[-1] - released[row]
        assert columns.normalized_latency_s_per_token[row] == columns.e2e_s[row] / len(tokens)
        if len(tokens) == 1:
            assert np.isnan(columns.tpot_s[row]) and np.isnan(columns.itl_max_s[row])
        else:
            assert columns.tpot_s[row] == (tokens[-1] - tokens[0]) / (len(tokens) - 1)


def test_queueing_ends_with_the_first_step():
    records, _ = serve([0.0, 0.0], [10, 10], [5, 5], slots=1, step_s=0.1, per_request_s=0.0)
    queueing = Result(records, {}).measurement.requests.queueing_s
    assert queueing[0] == 0.0
    assert queueing[1] == records.requests.finish_s[0]  # it waits for the only sequence slot


def test_only_requests_released_in_the_window_count_for_latency(two_classes, result):
    records, _ = two_classes
    released = records.requests.released_s
    inside = (released >= 10.0) & (released <= records.end_s - 5.0)
    counted = inside & (records.requests.status == Status.COMPLETED)
    assert 0 < counted.sum() < 400
    assert result.summary_dict()["latency"]["all"]["e2e_s"]["count"] == counted.sum()


def test_classes_partition_the_whole(result):
    latency = result.summary_dict()["latency"]
    for metric in latency["all"]:
        assert latency["chat"][metric]["count"] + latency["batch"][metric]["count"] == latency["all"][metric]["count"]


def test_who_meets_the_slo(two_classes, result):
    records, times = two_classes
    arrival, codes = records.table.arrival_s, records.table.slo_class.codes
    met = []
    for row, tokens in enumerate(times):
        gaps = np.diff(tokens) if len(tokens) > 1 else np.zeros(1)
        if not tokens:
            met.append(False)
        elif codes[row] == 0:
            met.append(tokens[0] - arrival[row] <= 0.05 and np.quantile(gaps, 0.95, method="inverted_cdf") <= 0.03)
        else:
            met.append(tokens[-1] - arrival[row] <= 1.2 and gaps.max() <= 0.1)
    np.testing.assert_array_equal(result.measurement.slo.met, met)
    inside = result.measurement.in_window
    judged = inside & (records.table.output_tokens > 0)
    slo = result.summary_dict()["slo"]["all"]
    assert 0 < slo["attainment"] < 1
    assert slo["attainment"] == (np.array(met) & inside).sum() / judged.sum()
    assert slo["goodput_per_s"] == pytest.approx((np.array(met) & inside).sum() / (records.end_s - 15.0))


def test_rejected_requests_violate_and_source_failures_are_not_judged(two_classes):
    records, _ = two_classes
    records.requests.status[5] = Status.REJECTED
    try:
        outcome = measure(records, normalize_limits({"e2e_s": 1e9})).slo
        assert not outcome.met[5] and outcome.judged[5]
        assert not outcome.judged[records.table.output_tokens == 0].any()
    finally:
        records.requests.status[5] = Status.COMPLETED


@pytest.mark.parametrize("slo", [{"ttf_s": 1}, {"ttft_s": -1}, {"ttft_s": "fast"}, {"chat": {"itl_p999x_s": 1}}, {"ttft_s": float("nan")}])
def test_an_slo_without_sense_is_refused(two_classes, slo):
    with pytest.raises(ConfigError, match="slo"):
        Result(two_classes[0], {}, slo)


def test_rates_times_window_are_totals(two_classes):
    records, times = two_classes
    rates = Result(records, {}).summary_dict()["throughput"]
    assert rates["output_tokens_per_s"] * records.end_s == pytest.approx(sum(map(len, times)))
    assert rates["requests_per_s"] * records.end_s == pytest.approx(sum(bool(t) for t in times))
    served = records.table.output_tokens > 0
    assert (rates["total_tokens_per_s"] - rates["output_tokens_per_s"]) * records.end_s == pytest.approx(
        records.table.prompt_tokens[served].sum()
    )


def test_littles_law(two_classes):
    records, _ = two_classes
    summary = Result(records, {}).summary_dict()
    r = records.requests
    assert summary["queue"]["in_system_mean"] == pytest.approx((r.finish_s - r.released_s).sum() / records.end_s)
    served = ~np.isnan(r.scheduled_s)
    assert summary["queue"]["waiting_mean"] == pytest.approx((r.scheduled_s - r.released_s)[served].sum() / records.end_s)


def test_largest_queue_is_that_of_a_burst():
    records, _ = serve(np.zeros(50), np.full(50, 10), np.full(50, 5), slots=8)
    queue = Result(records, {}).summary_dict()["queue"]
    assert queue["waiting_max"] == 42 and queue["in_system_max"] == 50


def test_busy_fraction_is_the_fraction_of_time_in_steps():
    records, _ = serve([0.0, 100.0], [10, 10], [5, 5])
    lane = records.lanes[0]
    use = Result(records, {}).summary_dict()["utilisation"]
    assert use["busy_fraction"] == pytest.approx((lane.step_end_s - lane.span_start_s).sum() / records.end_s)
    assert use["busy_fraction"] < 0.01
    assert use["kv_used_max"] == 10 / 1000


def test_a_steady_surplus_is_called_saturation_and_a_burst_is_not():
    overloaded = Result(serve(*poisson(1500, 50), slots=4)[0], {}).summary_dict()
    assert overloaded["saturation"]["saturated"] and "Saturated" in overloaded["warnings"][0]
    assert not Result(serve(*poisson(1500, 3), slots=32)[0], {}).summary_dict()["saturation"]["saturated"]
    burst = np.concatenate([np.linspace(0, 100, 300), np.full(200, 50.0), np.linspace(101, 200, 300)])
    order = np.sort(burst)
    assert not Result(serve(order, np.full(800, 10), np.full(800, 10), slots=8)[0], {}).summary_dict()["saturation"]["saturated"]


def test_a_burst_at_the_end_is_not_saturation():
    arrival = np.concatenate([np.linspace(0, 100, 300), np.full(300, 100.0)])
    assert not Result(serve(arrival, np.full(600, 10), np.full(600, 10), slots=8)[0], {}).summary_dict()["saturation"]["saturated"]
    late = np.concatenate([np.linspace(0, 100, 300), np.linspace(90, 100, 300)])
    late.sort()
    quiet = Result(serve(late, np.full(600, 10), np.full(600, 40), slots=8)[0], {}).summary_dict()["saturation"]
    assert quiet["waiting_by_quarter"][3] > 10 and not quiet["saturated"]


def test_unfinished_requests_are_said_and_have_no_e2e():
    records, _ = serve(*poisson(300, 50), slots=4, end_s=5.0)
    summary = Result(records, {}).summary_dict()
    assert summary["requests"]["unfinished"] > 0
    assert any("unfinished" in warning for warning in summary["warnings"])
    assert summary["latency"]["all"]["e2e_s"]["count"] == summary["requests"]["completed"]


def test_what_is_undefined_is_null_never_zero():
    records, _ = serve([1.0], [10], [0])
    summary = Result(records, {}).summary_dict()
    assert summary["latency"]["all"]["ttft_s"]["p50"] is None and summary["latency"]["all"]["itl_s"]["mean"] is None
    assert summary["slo"] is None
    empty_window = Result(serve([0.0], [10], [5])[0], {}, warmup_s=1e6).summary_dict()
    assert empty_window["throughput"]["requests_per_s"] is None and empty_window["queue"]["waiting_mean"] is None
    assert any("cuts leave nothing" in warning for warning in empty_window["warnings"])


def test_a_run_without_requests():
    summary = Result(serve([], [], [])[0], {}, {"ttft_s": 1}).summary_dict()
    assert summary["requests"]["total"] == 0 and summary["throughput"]["requests_per_s"] is None


def test_measuring_two_million_tokens_takes_a_moment():
    rng = np.random.default_rng(0)
    arrival = np.cumsum(rng.exponential(1 / 3.5, 10_000))
    records, _ = serve(
        arrival, rng.integers(50, 2000, 10_000), 1 + rng.geometric(1 / 210, 10_000), slots=128, step_s=0.012, per_request_s=1e-4
    )
    begin = time.process_time()
    Result(records, {}, {"ttft_s": 2, "itl_p99_s": 0.1}).summary_dict()
    assert time.process_time() - begin < 0.5  # about 0.03 s on two slow cores; per-token work would take seconds
