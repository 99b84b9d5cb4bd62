"""Figures at the edges of their definitions, by hand: limits met exactly, ends of the window, levels of overlapping intervals, borders."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simserve.engine.records import Status
from simserve.errors import ConfigError
from simserve.report import saturation as judged
from simserve.report.frontier import Felt, border, fractions_of
from simserve.report.metrics import measure, slo_summary
from simserve.report.quantiles import describe, weighted_cdf
from simserve.report.slo import limits_of_class, normalize_limits
from simserve.report.utilisation import count_over_time, level_steps
from simserve.report.window import Window, measured_window
from tests.frozen import changeable
from tests.report.synthetic import serve


def attained(records: Any, **limits: float) -> float:
    found = slo_summary(measure(records, normalize_limits(limits)))
    assert found is not None
    return found["all"]["attainment"]


@pytest.fixture(scope="module")
def stalled() -> tuple[Any, list[list[float]]]:
    return serve(np.arange(30) * 0.05, [10] * 30, [12] * 30, stall_every=5)


@pytest.mark.parametrize("name", ["ttft_s", "tpot_s", "e2e_s", "itl_max_s", "queueing_s"])
def test_a_limit_is_met_by_what_equals_it(name: str, stalled: tuple[Any, list[list[float]]]) -> None:
    records, _ = stalled
    worst = float(np.nanmax(measure(records, {}).requests.column(name)))
    assert attained(records, **{name: worst}) == 1.0
    assert attained(records, **{name: math.nextafter(worst, 0)}) < 1.0


@pytest.mark.parametrize(("percent", "within"), [(50, 6), (90, 10), (99, 11)])
def test_a_percentile_of_gaps_is_met_when_so_many_gaps_are_within(percent: int, within: int, stalled: tuple[Any, Any]) -> None:
    """Of 11 gaps the median is the 6th, the 90th percentile the 10th, the 99th the 11th."""
    records, times = stalled
    every = np.unique(np.concatenate([np.diff(of) for of in times]).round(9))
    for limit in (0.0145, *(every[:-1] + np.diff(every) / 2)):
        expected = [sorted(np.diff(of))[within - 1] <= limit for of in times]
        assert attained(records, **{f"itl_p{percent}_s": float(limit)}) == pytest.approx(np.mean(expected))


def test_first_tokens_may_take_as_long_as_the_prompt_allows(stalled: tuple[Any, Any]) -> None:
    records, _ = stalled
    worst = float(measure(records, {}).requests.column("ttft_s").max())
    assert attained(records, ttft_s_per_prompt_token=worst / 10 * (1 + 1e-12)) == 1.0
    assert attained(records, ttft_s_per_prompt_token=worst / 10 * (1 - 1e-9)) < 1.0


def test_limits_of_classes_and_of_all_requests() -> None:
    flat = normalize_limits({"ttft_s": 1, "tpot_s": None})
    assert flat == {"default": {"ttft_s": 1.0}}
    both = normalize_limits({"chat": {"ttft_s": 0.5}, "default": {"e2e_s": 9.0}, "none": {"ttft_s": None}})
    assert both == {"chat": {"ttft_s": 0.5}, "default": {"e2e_s": 9.0}}
    assert limits_of_class(both, "chat") == {"ttft_s": 0.5} and limits_of_class(both, "batch") == {"e2e_s": 9.0}
    assert limits_of_class({"chat": {"ttft_s": 0.5}}, "batch") == {}
    assert normalize_limits(None) == normalize_limits({}) == {}


@pytest.mark.parametrize("value", [0, -1.0, True, "1", math.nan])
def test_a_limit_is_a_positive_number(value: object) -> None:
    with pytest.raises(ConfigError, match=r"slo\.default\.ttft_s"):
        normalize_limits({"ttft_s": value})


@pytest.mark.parametrize("name", ["itl_p_s", "itl_p100_s", "itl_ema0_s", "itl_p99", "itl_ema12345_s", "ttft"])
def test_objectives_that_there_are_not(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown objective"):
        normalize_limits({name: 1.0})
    assert normalize_limits({"itl_p99.9_s": 1.0, "itl_p5_s": 1.0, "itl_ema1000_s": 1.0})


# ---- the window ----


def test_a_window_holds_its_ends() -> None:
    window = Window(1.0, 3.0)
    assert window.holds(np.array([0.999, 1.0, 2.0, 3.0, 3.001, math.nan])).tolist() == [False, True, True, True, False, False]
    assert window.overlap_s(np.array([0.0, 1.5, 2.5, 4.0]), np.array([2.0, 2.0, 9.0, 5.0])).tolist() == [1.0, 0.5, 0.5, 0.0]
    assert not Window(2.0, 2.0, empty=True).holds(np.array([2.0]))[0]


def test_cuts_that_meet_leave_an_instant() -> None:
    records = SimpleNamespace(end_s=10.0)
    touching = measured_window(records, 4.0, 6.0)  # type: ignore[arg-type]
    assert (touching.start_s, touching.end_s, touching.empty) == (4.0, 4.0, False)
    assert measured_window(records, 4.0, 6.1).empty  # type: ignore[arg-type]


# ---- how many at once ----


def test_levels_of_overlapping_intervals() -> None:
    time, level = level_steps(np.array([0.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0]))
    assert time.tolist() == [0.0, 1.0, 2.0, 3.0] and level.tolist() == [1, 2, 1, 0]
    assert [len(part) for part in level_steps(np.empty(0), np.empty(0))] == [0, 0]


def test_mean_and_most_in_a_window() -> None:
    """One interval of 4 s, one of 1 s inside it, one of no length that is nowhere."""
    from_s, to_s = np.array([0.0, 2.0, 3.5]), np.array([4.0, 3.0, 3.5])
    assert count_over_time(from_s, to_s, Window(0.0, 4.0)) == (5 / 4, 2.0)
    assert count_over_time(from_s, to_s, Window(0.0, 2.0)) == (1.0, 1.0), "what begins when the window ends is outside"
    assert count_over_time(from_s, to_s, Window(3.0, 4.0)) == (1.0, 1.0), "what ended when it began, too"
    assert count_over_time(from_s, to_s, Window(5.0, 6.0)) == (0.0, 0.0)
    assert all(math.isnan(x) for x in count_over_time(from_s, to_s, Window(1.0, 1.0)))


# ---- saturation ----


def verdict(monkeypatch: pytest.MonkeyPatch, waiting: list[float], requests: int, unfinished: int = 0) -> judged.Saturation:
    """Of so many requests released over 4 s, with so many waiting all through each second."""
    intervals = [(k, k + 1) for k, count in enumerate(waiting) for _ in range(int(count))]
    columns = np.array(intervals or [(0, 0)], dtype=float).T
    monkeypatch.setattr(judged, "waiting_intervals", lambda records: (columns[0], columns[1]))
    status = np.full(requests, Status.COMPLETED)
    status[:unfinished] = Status.UNFINISHED
    requests_ = SimpleNamespace(released_s=np.linspace(0.0, 4.0, requests), status=status)
    return judged.saturation(SimpleNamespace(requests=requests_))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("waiting", "requests", "saturated"),
    [
        ([0, 4, 8, 11], 100, True),
        ([0, 4, 8, 10], 100, False),  # ten more than in the first quarter are no proof
        ([0, 9, 15, 21], 1000, True),
        ([0, 9, 15, 20], 1000, False),  # nor are 2 % of the requests
        ([0, 0, 40, 80], 100, True),  # slots fill before anything waits
        ([0, 0, 0, 80], 100, False),  # that is a burst at the end
        ([0, 30, 30, 60], 100, False),  # it did not grow in the third quarter
        ([0, 30, 20, 60], 100, False),
        ([60, 30, 20, 5], 100, False),
    ],
)
def test_a_queue_that_grows_in_every_quarter_and_by_enough(
    monkeypatch: pytest.MonkeyPatch, waiting: list[float], requests: int, saturated: bool
) -> None:
    found = verdict(monkeypatch, waiting, requests)
    assert found.saturated == saturated and found.quarters == tuple(map(float, waiting))
    assert bool(found.message) == saturated
    if saturated:
        assert f"{waiting[0]} in its first quarter, {waiting[3]} in its last" in found.message


def test_what_was_left_is_said_whatever_the_queue_did(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "1 request was unfinished" in verdict(monkeypatch, [0, 0, 0, 0], 50, unfinished=1).message
    both = verdict(monkeypatch, [0, 40, 80, 120], 50, unfinished=2).message
    assert both.startswith("Saturated") and both.endswith("2 requests were unfinished when the run was cut by its time limit.")


def test_one_request_or_one_instant_says_nothing() -> None:
    for released in ([1.0], [2.0, 2.0, 2.0], [math.nan, 1.0]):
        columns = SimpleNamespace(released_s=np.array(released), status=np.full(len(released), Status.COMPLETED))
        assert judged.saturation(SimpleNamespace(requests=columns)) == judged.Saturation(False, (), "")  # type: ignore[arg-type]


# ---- the border of what limits are met ----


def test_the_border_by_hand() -> None:
    """Three of four requests have to meet both limits. TPOT 1, 2, 3, 4 with TTFT 9, 1, 5, 2: with TPOT 3 the third TTFT of 1, 5, 9; with
    TPOT 4 the third of 1, 2, 5, 9."""
    felt = Felt(np.array([9.0, 1.0, 5.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    x, y = border(felt, 0.75)
    assert x.tolist() == [3.0, 4.0] and y.tolist() == [9.0, 5.0]
    assert [part.tolist() for part in border(felt, 1.0)] == [[4.0], [9.0]]


def test_requests_that_did_not_complete_meet_no_limit() -> None:
    done, counts = np.array([True, False, True, True]), np.array([True, True, True, False])
    felt = Felt.of(done, counts, np.array([1.0, 1.0, 2.0, 3.0]), np.array([0.1, 0.1, math.nan, 0.3]))
    assert felt.ttft_s.tolist() == [1.0, math.inf, 2.0] and felt.tpot_s.tolist() == [0.1, math.inf, 0.0]
    assert len(border(felt, 0.9)[0]) == 0, "one of three is 33 %"
    assert [round(curve.fraction, 2) for curve in fractions_of(felt)] == [0.5, 0.9, 0.99]
    assert [curve.label for curve in fractions_of(felt)] == ["50 % of requests", "90 % of requests", "99 % of requests"]


# ---- percentiles ----


@pytest.mark.parametrize(("count", "p50", "p90", "p99"), [(1, 1, 1, 1), (2, 1, 2, 2), (10, 5, 9, 10), (11, 6, 10, 11), (100, 50, 90, 99)])
def test_percentiles_of_the_first_numbers(count: int, p50: float, p90: float, p99: float) -> None:
    """The smallest of 1 .. n that enough are at or below."""
    stats = describe(np.arange(count, 0, -1, dtype=float))
    assert (stats.p50, stats.p90, stats.p99, stats.max, stats.mean) == (p50, p90, p99, count, (count + 1) / 2)


def test_the_drawn_distribution_of_nothing_and_of_weights() -> None:
    assert [len(part) for part in weighted_cdf(list)] == [0, 0]
    at, fraction = weighted_cdf(lambda: [(np.array([1.0, 8.0]), np.array([3, 1])), (np.array([8.0]), np.array([0]))])
    assert fraction.tolist() == [0.75, 1.0]
    assert (at > [1.0, 8.0]).all() and at == pytest.approx([1.0, 8.0], rel=0.004)


def test_results_do_not_change() -> None:
    assert changeable("simserve.report") == changeable("simserve.catalogue") == set()
