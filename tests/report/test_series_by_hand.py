"""Quantities over time in bins, states of instances over a run, and totals of steps: on runs small enough to add up by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simserve.engine.records import LaneLog, Status
from simserve.report import cluster, energy, series
from simserve.report.itl import TokenGaps
from tests.report.synthetic import poisson, serve


def lane(*spans: tuple[float, float, int, int, int, int, int], number: int = 0, layered: Any = ()) -> LaneLog:
    """Spans of (start_s, seconds of a step, steps, decodes, context tokens, prompt tokens, KV blocks); a prompt is one chunk from 0."""
    start, step, steps, decodes, context, prompt, blocks = (np.array(column) for column in zip(*spans, strict=True))
    ends = np.concatenate([a + s * np.arange(1, n + 1) for a, s, n in zip(start, step, steps, strict=True)])
    first = np.concatenate([[0], np.cumsum(steps)[:-1]])
    pairs = prompt * (prompt + 1) // 2
    zero = np.zeros(len(steps), dtype=np.int64)
    return LaneLog(
        number, 0, ends, first, steps, start.astype(float), decodes, context, (prompt > 0).astype(np.int64), prompt, pairs, blocks, zero,
        layered=np.array(layered, dtype=np.int64).reshape(-1, 3),
    )  # fmt: skip


# ---- bins ----


def test_the_mean_of_a_quantity_in_each_bin() -> None:
    """4 from 0 to 1 s and 2 from 2 to 4 s: in bins of 2 s a mean of 2 and 2; of 1 s 4, 0, 2, 2."""
    start, end, value = np.array([0.0, 2.0]), np.array([1.0, 4.0]), np.array([4, 2])
    assert series.mean_in_bins(start, end, value, np.array([0.0, 2.0, 4.0])).tolist() == [2.0, 2.0]
    assert series.mean_in_bins(start, end, value, np.arange(5.0)).tolist() == [4.0, 0.0, 2.0, 2.0]
    assert series.mean_in_bins(start[:0], end[:0], value[:0], np.arange(3.0)).tolist() == [0.0, 0.0]


def test_how_many_intervals_are_open_in_each_bin() -> None:
    """[0, 1.5] and [1, 3]: means 1, 1.5, 1, 0; at most 1, 2, 1, 0. What begins with a bin is in it, what ends with it is not."""
    mean, peak = series.level_in_bins(np.array([0.0, 1.0]), np.array([1.5, 3.0]), np.arange(5.0))
    assert mean.tolist() == [1.0, 1.5, 1.0, 0.0] and peak.tolist() == [1.0, 2.0, 1.0, 0.0]
    early, late = series.level_in_bins(np.array([0.25, 3.25, 3.5]), np.array([0.5, 3.75, 3.75]), np.arange(5.0))
    assert early.tolist() == [0.25, 0.0, 0.0, 0.75] and late.tolist() == [1.0, 0.0, 0.0, 2.0], "the first bin and the last"
    nothing = series.level_in_bins(np.empty(0), np.empty(0), np.arange(4.0))
    assert [part.tolist() for part in nothing] == [[0.0] * 3] * 2


def test_edges_reach_from_0_to_the_end() -> None:
    assert series.bin_edges(SimpleNamespace(end_s=10.0), 4).tolist() == [0.0, 2.5, 5.0, 7.5, 10.0]  # type: ignore[arg-type]
    assert len(series.bin_edges(SimpleNamespace(end_s=10.0))) == 201  # type: ignore[arg-type]
    assert np.diff(series.bin_edges(SimpleNamespace(end_s=0.0), 2)).min() > 0  # type: ignore[arg-type]


def test_batch_and_memory_in_bins() -> None:
    """Two steps of 1 s with 3 decodes and 20 blocks; from 3 to 4 s a chunk beside 1 decode, 30 blocks."""
    log = lane((0.0, 1.0, 2, 3, 9, 0, 20), (3.0, 1.0, 1, 1, 3, 8, 30))
    assert series.running_in_bins(log, np.arange(5.0)).tolist() == [3.0, 3.0, 0.0, 2.0]
    records = SimpleNamespace(lanes=[log], instances=[SimpleNamespace(kv_blocks=40), SimpleNamespace(kv_blocks=40)])
    assert series.kv_used_in_bins(records, 0, np.arange(5.0)).tolist() == [0.5, 0.5, 0.0, 0.75]  # type: ignore[arg-type]
    assert series.kv_used_in_bins(records, 1, np.arange(5.0)).tolist() == [0.0] * 4  # type: ignore[arg-type]
    records.instances[0].kv_blocks = 0
    assert series.kv_used_in_bins(records, 0, np.arange(5.0)).tolist() == [0.0] * 4  # type: ignore[arg-type]
    assert series.prompt_tokens_in_bins(records, np.array([0.0, 3.5, 5.0])).tolist() == [0.0, 8.0]  # type: ignore[arg-type]


def test_every_token_is_in_one_bin() -> None:
    records, times = serve(*poisson(120, 9, seed=4), stall_every=6)
    edges = series.bin_edges(records, 30)
    tokens = series.output_tokens_in_bins(records, TokenGaps.of(records), edges)
    expected = np.histogram(np.concatenate(times), edges)[0]
    assert tokens.tolist() == expected.tolist() and tokens.sum() == sum(map(len, times))


def test_percentiles_of_each_bin() -> None:
    time = np.array([2.5, 0.1, 0.2, 0.3, 3.0, math.nan, 0.4])
    value = np.array([7.0, 3.0, 1.0, 2.0, 9.0, 5.0, math.nan])
    found = series.percentiles_in_bins(time, value, np.arange(4.0), (0.5, 1.0))
    assert found[:, 0].tolist() == [2.0, 3.0] and np.isnan(found[:, 1]).all() and found[:, 2].tolist() == [7.0, 9.0]


def test_percentiles_of_gaps_by_the_time_of_the_token() -> None:
    records, times = serve(*poisson(80, 9, seed=6), stall_every=5)
    edges = series.bin_edges(records, 12)
    found = series.itl_percentiles_in_bins(TokenGaps.of(records), edges, (0.5, 0.99))
    at = np.concatenate([of[1:] for of in times if len(of) > 1])
    gaps = np.concatenate([np.diff(of) for of in times if len(of) > 1])
    for number in range(12):
        inside = gaps[(at >= edges[number]) & (at < edges[number + 1])]
        if len(inside):
            expected = np.quantile(inside, (0.5, 0.99), method="inverted_cdf")
            assert found[:, number] == pytest.approx(expected, rel=1e-9), number
        else:
            assert np.isnan(found[:, number]).all()


def test_a_thinned_distribution_keeps_its_tail() -> None:
    few, fraction = series.cdf_points(np.array([3.0, math.nan, 1.0, 2.0]))
    assert few.tolist() == [1.0, 2.0, 3.0] and fraction.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert [len(part) for part in series.cdf_points(np.array([math.nan]))] == [0, 0]
    assert len(series.cdf_points(np.arange(700.0))[0]) == 700, "as many as are drawn are not thinned"
    values, fraction = series.cdf_points(np.arange(1.0, 100_001.0))
    assert len(values) < 701 and values[-3:].tolist() == [99_998, 99_999, 100_000] and values[0] == 1.0
    assert fraction == pytest.approx(values / 100_000)


# ---- instances over a run ----


def states(*changes: tuple[float, int, str], end_s: float = 10.0, instances: int = 2) -> Any:
    return SimpleNamespace(instance_states=changes, end_s=end_s, instances=[None] * instances)


def test_seconds_in_a_state() -> None:
    """0 drains from 4 s and is off from 6 s; 1 boots at 3 s, having been off from the start, and is up from 5 s."""
    records = states((0.0, 1, "off"), (3.0, 1, "booting"), (4.0, 0, "draining"), (5.0, 1, "up"), (6.0, 0, "off"), (12.0, 1, "off"))
    assert cluster.seconds_in(records, cluster.SERVES) == [6.0, 5.0]
    assert cluster.seconds_in(records, cluster.COSTS) == [6.0, 7.0]
    assert cluster._serving(records) == {"min": 1, "max": 2, "end": 1}


def test_what_changes_at_one_instant_is_one_change() -> None:
    assert cluster._serving(states((2.0, 0, "off"), (2.0, 1, "off"), (4.0, 0, "up"))) == {"min": 0, "max": 2, "end": 1}
    assert cluster._serving(states()) == {"min": 2, "max": 2, "end": 2}


def test_roles_are_those_of_the_experiment_or_unknown() -> None:
    groups = {"cluster": {"instances": [{"count": 2, "role": "prefill"}, {"count": 1, "max_count": 2, "role": "decode"}]}}
    assert cluster.instance_roles(groups, 4) == ["prefill", "prefill", "decode", "decode"]
    assert cluster.instance_roles(groups, 3) == [None] * 3 and cluster.instance_roles({}, 2) == [None] * 2
    assert cluster.instance_roles({"cluster": {"instances": [{"role": "mixed"}]}}, 1) == ["mixed"]


# ---- energy ----


def test_totals_of_spans() -> None:
    """Three steps of 2 decodes over 10 tokens: 10, 12 and 14 keys. A chunk of 4 beside one decode over 5: 10 pairs, read as 2.5 keys."""
    steps, tokens, attended, pairs = energy._totals([lane((0.0, 1.0, 3, 2, 10, 0, 1), (4.0, 1.0, 1, 1, 5, 4, 1))])
    assert steps.tolist() == [3.0, 1.0] and tokens.tolist() == [2.0, 5.0]
    assert attended.tolist() == [12.0, 7.5] and pairs.tolist() == [36.0, 15.0]
    assert [len(column) for column in energy._totals([])] == [0] * 4


def test_a_chunk_in_one_of_four_groups_is_a_quarter_of_a_step() -> None:
    log = lane((0.0, 1.0, 1, 2, 10, 4, 1), layered=[(0, 1, 4)])
    steps, tokens, attended, pairs = energy._totals([log])
    assert steps.tolist() == [0.25, 0.75] and tokens.tolist() == [6.0, 2.0]
    assert attended.tolist() == [12.5, 10.0] and pairs.tolist() == [5.0, 7.5]


class Meter:
    """A cost model whose steps cost one joule a second busy and which reads 100 bytes of experts for each step."""

    def __init__(self, validated: bool = True, experts: bool = True) -> None:
        self.energy_validated, self.experts = validated, experts

    def energy(self, steps: Any, tokens: Any, attended_tokens: Any, pairs: Any, busy_s: float, run_s: float) -> float | None:
        return busy_s + 10 * run_s

    def expert_bytes(self, steps: Any, tokens: Any) -> float | None:
        return 100.0 * float(steps.sum()) if self.experts else None


def a_run(end_s: float = 4.0, output: int = 5, off: tuple[tuple[float, int, str], ...] = ()) -> Any:
    requests = SimpleNamespace(generated_tokens=np.array([output, 0]), status=np.array([Status.COMPLETED, Status.REJECTED]))
    table = SimpleNamespace(prompt_tokens=np.array([15, 99]))
    logs = [lane((0.0, 1.0, 3, 1, 9, 0, 1)), lane((0.0, 0.5, 2, 1, 9, 0, 1), number=1)]
    info = [SimpleNamespace(name="a"), SimpleNamespace(name="b")]
    return SimpleNamespace(lanes=logs, instances=info, end_s=end_s, requests=requests, table=table, instance_states=off, scaling=None)


def test_an_instance_that_is_off_draws_nothing() -> None:
    found = energy.run_energy(a_run(off=((3.0, 1, "off"),)), [Meter(), Meter()])
    assert found is not None and found["energy_j"] == 3.0 + 1.0 + 10 * (4.0 + 3.0) and found["mean_power_w"] == 74 / 4


def test_joules_by_instance_token_and_second() -> None:
    found = energy.run_energy(a_run(), [Meter(), Meter()])
    assert found is not None and found["energy_j"] == 3.0 + 1.0 + 80.0 and found["mean_power_w"] == 21.0 and found["validated"]
    assert found["joules_per_output_token"] == 84 / 5 and found["joules_per_token"] == 84 / 20, "prompts of those that were served"
    assert found["instances"] == [
        {"name": "a", "energy_j": 43.0, "mean_power_w": 10.75},
        {"name": "b", "energy_j": 41.0, "mean_power_w": 10.25},
    ]
    assert energy.run_energy(a_run(), [Meter(), Meter(validated=False)])["validated"] is False  # type: ignore[index]
    assert energy.run_energy(a_run(), [Meter(), object()]) is None
    none = energy.run_energy(a_run(output=0), [Meter(), Meter()])
    assert none is not None and none["joules_per_output_token"] is None and none["joules_per_token"] is None


def test_bytes_of_experts_of_all_instances_or_of_none() -> None:
    found = energy.run_experts(a_run(), [Meter(), Meter()])
    assert found == {"bytes_read": 500.0, "bytes_read_per_request": 500.0, "bytes_read_per_output_token": 100.0, "validated": False}
    assert energy.run_experts(a_run(), [Meter(), Meter(experts=False)]) is None and energy.run_experts(a_run(), [Meter(), object()]) is None
