"""Steps that vary: what is drawn, that spans and steps draw the same, that the mean stays, and that a wrong key is noticed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.engine.jitter import FLOOR, LaneJitter, StepJitter, host_factors, stall_seconds
from simserve.engine.records import RunRecords
from simserve.errors import ConfigError, InvariantError
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.engine.strategies import jitters
from tests.reference.toy_cost import JaggedCost

SOME = StepJitter(0.004, 0.0002, spread=0.5, stall_probability=0.02, stall_s=0.03, seed=7)


def run(jitter: StepJitter | None, **options: Any) -> RunRecords:
    """Forty requests of long answers, close together, on one instance with room for all."""
    n = 40
    table = RequestTable.build(np.arange(n) * 0.05, np.full(n, 30), np.arange(n) % 7 * 40 + 100)
    policy = scheduler_class("vllm-v1")
    scheduler = policy(policy.Params(max_num_batched_tokens=64, max_seqs=16))
    spec = InstanceSpec("i", scheduler, JaggedCost(), 10_000, block_tokens=4, max_seqs=16, jitter=jitter)
    return simulate(Workload(table), [spec], **options)


def step_seconds(records: RunRecords) -> np.ndarray:
    (lane,) = records.lanes
    starts = np.concatenate([[0.0], lane.step_end_s[:-1]])
    starts[lane.span_first_step] = lane.span_start_s
    return lane.step_end_s - starts


@pytest.mark.parametrize("spread", [0.0, 0.1, 0.5, 1.0])
def test_the_factor_is_lognormal_with_mean_one(spread: float) -> None:
    values = host_factors(spread)
    assert values.mean() == pytest.approx(1.0, abs=1e-12)
    for q in (0.1, 0.5, 0.9, 0.99):
        expected = math.exp(spread * NormalDist().inv_cdf(q) - spread**2 / 2)
        assert np.quantile(values, q) == pytest.approx(expected, rel=0.01), q


@pytest.mark.parametrize(("probability", "mean_s"), [(0.0, 0.01), (0.003, 0.004), (0.05, 0.02), (1.0, 0.02), (0.01, 0.0)])
def test_stalls_are_as_frequent_and_as_long_as_stated(probability: float, mean_s: float) -> None:
    mean, values = stall_seconds(probability, mean_s)
    assert mean == pytest.approx(probability * mean_s, abs=1e-12)
    assert values.min() >= 0.0
    if probability and mean_s:
        assert (values > 0).mean() == pytest.approx(probability, abs=1e-4)
        stalls = values[values > 0]
        assert np.quantile(stalls, 0.5) == pytest.approx(mean_s * math.log(2), rel=0.03)
        assert np.quantile(stalls, 0.9) == pytest.approx(mean_s * math.log(10), rel=0.03)


def test_quantiles_of_steps_are_those_of_the_host_s_part() -> None:
    """80 ms of devices and 4 ms of host, half of whose logarithm's deviation is 1: only the 4 ms vary."""
    lane = replace(SOME, step_s=0.004, decode_s=0.0, spread=0.5, stall_probability=0.0).of_lane(0)
    seconds = np.asarray(lane.several(np.full(200_000, 0.084), 0, 5))
    for q in (0.5, 0.9, 0.95, 0.99):
        expected = 0.08 + 0.004 * math.exp(0.5 * NormalDist().inv_cdf(q) - 0.125)
        assert np.quantile(seconds, q) == pytest.approx(expected, rel=3e-4), q


def test_the_mean_of_a_step_stays() -> None:
    lane = SOME.of_lane(3)
    seconds = np.asarray(lane.several(np.full(400_000, 0.05), 0, 10))
    assert seconds.mean() == pytest.approx(0.05, rel=3e-4)
    assert seconds.std() > 0.002


@settings(max_examples=60, deadline=None)
@given(jitters(), st.lists(st.sampled_from([1, 1, 2, 5, 47, 48, 60, 1500]), min_size=1, max_size=12), st.integers(0, 9), st.booleans())
def test_several_steps_are_the_single_ones(jitter: StepJitter, runs: list[int], decodes: int, arrays: bool) -> None:
    """However they are grouped, as lists or arrays, forwards and again: bit for bit, positive."""
    means = np.random.default_rng(len(runs)).uniform(0.001, 0.05, sum(runs))
    one = jitter.of_lane(1)
    alone = [one.one(mean, step, decodes) for step, mean in enumerate(means.tolist())]
    assert all(FLOOR * mean <= seconds < math.inf for mean, seconds in zip(means.tolist(), alone, strict=True))
    grouped = jitter.of_lane(1)
    for _ in range(2):
        step, together = 0, []
        for length in runs:
            part = means[step : step + length]
            together += list(grouped.several(part if arrays else part.tolist(), step, decodes))
            step += length
        assert together == alone


def test_lanes_seeds_and_steps_draw_apart() -> None:
    means = np.full(20_000, 0.05)
    draws = [np.asarray(replace(SOME, seed=seed).of_lane(lane).several(means, 0, 4)) for seed, lane in ((0, 0), (0, 1), (1, 0))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(draws[a], draws[b])[0, 1]) < 0.03
    for lag in (1, 2, 7):
        assert abs(np.corrcoef(draws[0][lag:], draws[0][:-lag])[0, 1]) < 0.03


def test_spans_and_steps_agree_and_a_run_is_repeated() -> None:
    spans, stepped, again = run(SOME), run(SOME, fast_forward=False), run(SOME)
    assert spans.counters["plans"] < stepped.counters["plans"]
    for other in (stepped, again):
        assert np.array_equal(spans.lanes[0].step_end_s, other.lanes[0].step_end_s)
        assert np.array_equal(spans.requests.finish_s, other.requests.finish_s)
    assert not np.array_equal(spans.requests.finish_s, run(replace(SOME, seed=8)).requests.finish_s)


def test_check_passes_with_jitter() -> None:
    run(SOME, check=True)


def test_a_run_without_variation_is_the_run_without_jitter() -> None:
    still = replace(SOME, spread=0.0, stall_probability=0.0)
    assert np.array_equal(run(None).lanes[0].step_end_s, run(still).lanes[0].step_end_s)


def test_a_run_takes_as_long_and_its_gaps_vary() -> None:
    plain, varied = run(None), run(SOME)
    assert varied.end_s == pytest.approx(plain.end_s, rel=0.01)
    changes = [np.median(np.abs(np.diff(step_seconds(records)))) for records in (plain, varied)]
    assert changes[1] > 1.2 * changes[0]  # from one step to the next


def _by_call(self: LaneJitter, seconds: float, step: int, decodes: int) -> float:
    """Keyed by how often it was asked."""
    self._asked = getattr(self, "_asked", -1) + 1  # type: ignore[attr-defined]
    return _ONE(self, seconds, 3 * self._asked, decodes)  # type: ignore[attr-defined]


def _by_place_in_span(self: LaneJitter, seconds: Any, step: int, decodes: int) -> Any:
    """Keyed by the place in the span."""
    return _SEVERAL(self, seconds, 0, decodes)


_ONE, _SEVERAL = LaneJitter.one, LaneJitter.several


class _Open(LaneJitter):
    """With room for a saboteur's own."""

    __slots__ = ("_asked",)


@pytest.mark.parametrize(("name", "wrong"), [("one", _by_call), ("several", _by_place_in_span)])
def test_a_wrong_key_is_noticed(name: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Open, name, wrong, raising=False)
    monkeypatch.setattr(StepJitter, "of_lane", lambda self, lane: _Open(self, lane))
    with pytest.raises(InvariantError, match="I7"):
        run(SOME, check=True)


@pytest.mark.parametrize("wrong", [{"spread": -0.1}, {"stall_s": math.inf}, {"step_s": math.nan}, {"stall_probability": 1.5}])
def test_what_is_no_jitter_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"jitter: {next(iter(wrong))}"):
        StepJitter(**{"step_s": 0.001, **wrong})
