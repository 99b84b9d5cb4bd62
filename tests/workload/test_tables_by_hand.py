"""Rows of a few requests by hand: what a table may hold, what shaping leaves, what the statistics of a trace say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from simserve.errors import ConfigError, TraceError
from simserve.workload.config import ClosedLoop, Lengths, SloClassRule, WorkloadConfig, build_workload
from simserve.workload.generators.arrivals import Constant, Diurnal, Gamma, Piecewise, RatePiece, Weibull, arrival_times
from simserve.workload.generators.lengths import Fixed, Lognormal, Normal, Uniform, Zipf
from simserve.workload.requests import Labels, PrefixBlocks, RequestTable, Workload
from simserve.workload.shaping import Shaping, TokenLimits, clip_tokens, make_dependent, options_from, root_arrivals, shape
from simserve.workload.statistics import QUANTILES, index_of_dispersion, prefix_reuse, trace_statistics


def table(arrival_s: list[float], prompt: list[int] | None = None, output: list[int] | None = None, **columns: Any) -> RequestTable:
    n = len(arrival_s)
    arrays = {key: np.array(value) if isinstance(value, list) else value for key, value in columns.items()}
    return RequestTable.build(np.array(arrival_s), np.array(prompt or [10] * n), np.array(output or [5] * n), **arrays)


def labels(*names: str) -> Labels:
    known = sorted(set(names))
    return Labels(np.array([known.index(name) for name in names], dtype=np.int16), tuple(known))


# ---- tables ----


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"arrival_s": [0.0, np.inf]}, "row 1: arrival_s is not a finite number"),
        ({"arrival_s": [0.0, np.nan]}, "row 1: arrival_s is not a finite number"),
        ({"arrival_s": [-1e-9, 0.0]}, "row 0: arrival_s is negative"),
        ({"prompt": [1, -1]}, "row 1: prompt_tokens is negative"),
        ({"output": [-1, 1]}, "row 0: output_tokens is negative"),
        ({"after": [-1, 1]}, "row 1: after does not point to an earlier row"),
        ({"after": [0, -1]}, "row 0: after does not point"),
        ({"arrival_s": [2.0, 1.0]}, "not in order of time"),
        ({"prompt": [1, 2, 3]}, "column prompt_tokens has 3 rows, arrival_s has 2"),
        ({"priority": [1]}, "column priority has 1 rows"),
        ({"label_model": labels("a")}, "column label_model has 1 rows"),
        ({"slo_class": labels("a", "b", "c")}, "column slo_class has 3 rows"),
        ({"elapsed_s": [1.0]}, "column elapsed_s has 1 rows"),
    ],
)
def test_rows_that_no_table_holds(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        table(**{"arrival_s": [0.0, 1.0], **columns})


def test_rows_that_a_table_holds() -> None:
    assert len(table([])) == 0
    odd = table([0.0, 0.0, 5.0, 1.0], [0, 1, 2, 3], [0, 1, 2, 3], after=[-1, -1, 0, 2])
    assert odd.max_output_tokens.tolist() == odd.session.tolist() == [-1] * 4, "none stated"
    assert odd.priority.tolist() == [0] * 4 and odd.slo_class.names == ("default",) and odd.elapsed_s is None
    assert odd.provenance == {}


def test_rows_taken_forget_who_is_left_out() -> None:
    ids = PrefixBlocks(np.array([0, 2, 3, 5]), np.array([1, 2, 3, 4, 5]), 16)
    whole = table(
        [0.0, 1.0, 2.0], [40, 20, 36], after=[-1, -1, 1], prefix=ids, elapsed_s=[1.0, 2.0, 3.0], label_model=labels("a", "b", "a")
    )
    taken = whole.take(np.array([1, 2]))
    assert taken.after.tolist() == [-1, 0] and taken.elapsed_s.tolist() == [2.0, 3.0]
    assert taken.prefix.offsets.tolist() == [0, 1, 3] and taken.prefix.ids.tolist() == [3, 4, 5]
    assert [taken.label_model.names[code] for code in taken.label_model.codes] == ["b", "a"]
    assert whole.take(np.array([0, 2])).after.tolist() == [-1, -1]


@pytest.mark.parametrize(("concurrency", "most"), [(None, 0), (None, -1), (2, 2)])
def test_a_bound_is_at_least_1_and_for_open_arrivals(concurrency: int | None, most: int) -> None:
    with pytest.raises(ValueError, match="max_concurrency"):
        Workload(table([0.0]), concurrency, 0.0, most)
    assert Workload(table([0.0]), None, 0.0, 1).max_concurrency == 1


# ---- contents ----


def test_blocks_of_a_prompt() -> None:
    """Prompts of 32, 33 and 0 tokens: blocks of 16 that begin in them, and that they fill."""
    blocks = PrefixBlocks(np.array([0, 3, 6, 7]), np.arange(7), 16)
    prompt = np.array([32, 33, 0])
    assert blocks.within(prompt).ids.tolist() == [0, 1, 3, 4, 5]
    assert blocks.whole(prompt).ids.tolist() == [0, 1, 3, 4]
    assert blocks.within(np.array([48, 48, 16])) is blocks
    assert blocks.leading(np.array([1, 0, 1])).offsets.tolist() == [0, 1, 1, 2]


def test_an_id_after_another_beginning_is_another_content() -> None:
    same = PrefixBlocks(np.array([0, 2, 4]), np.array([1, 2, 1, 2]), 16)
    assert same.chained() is same
    other = PrefixBlocks(np.array([0, 2, 4, 7]), np.array([1, 2, 3, 2, 1, 2, 9]), 16).chained()
    first, second, third = (other.ids[a:b].tolist() for a, b in ((0, 2), (2, 4), (4, 7)))
    assert first == third[:2] and not set(first) & set(second) and len(set(first + second + third)) == 5
    repeated = PrefixBlocks(np.array([0, 3]), np.array([7, 7, 7]), 16).chained()
    assert len(set(repeated.ids.tolist())) == 3, "the same text three times is three keys"


def test_what_a_cache_that_forgets_nothing_finds() -> None:
    """Blocks of 10. The second prompt is the first and 5 more tokens: 2 of its 3 blocks. The third is the first again: 20 tokens, of
    which one is always computed, so one block. The fourth failed."""
    ids = PrefixBlocks(np.array([0, 2, 5, 7, 9]), np.array([1, 2, 1, 2, 3, 1, 2, 1, 2]), 10)
    found = prefix_reuse(ids, np.array([20, 25, 20, 20]), np.array([True, True, True, False]))
    assert (found["blocks"], found["unique_blocks"], found["block_tokens"]) == (7, 3, 10)
    assert found["block_hit_ratio"] == 4 / 7 and found["token_hit_ratio"] == 30 / 65
    nothing = prefix_reuse(PrefixBlocks(np.array([0, 0]), np.empty(0, np.int64), 16), np.array([0]))
    assert nothing["block_hit_ratio"] == nothing["token_hit_ratio"] == 0.0 and nothing["unique_blocks"] == 0


# ---- shaping ----


def shaped(rows: RequestTable, **options: Any) -> RequestTable:
    return shape(rows, options_from(options), 0, "t")


def test_a_window_begins_with_its_start_and_ends_before_its_end() -> None:
    rows = table([0.0, 1.0, 2.0, 3.0])
    assert shaped(rows, start_s=1.0, duration_s=2.0).arrival_s.tolist() == [0.0, 1.0]
    assert shaped(rows, start_s=1.0, rate_scale=2.0).arrival_s.tolist() == [0.0, 0.5, 1.0]
    assert shaped(rows, limit=3).arrival_s.tolist() == [0.0, 1.0, 2.0]
    assert len(shaped(rows, limit=1)) == 1 and shaped(rows).arrival_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(TraceError, match=r"no request is left .* 4 rows over 3 s"):
        shaped(rows, start_s=3.5)


def test_limits_hold_what_equals_them() -> None:
    rows = table([0.0, 1.0, 2.0], [10, 11, 10], [5, 5, 6])
    assert shaped(rows, drop_prompt_tokens=10).output_tokens.tolist() == [5, 6]
    assert shaped(rows, drop_output_tokens=5).prompt_tokens.tolist() == [10, 11]
    assert shaped(rows, drop_total_tokens=15).prompt_tokens.tolist() == [10]


def test_the_output_is_shortened_first_to_one_token_then_the_prompt() -> None:
    rows = table([0.0] * 4, [10, 10, 20, 20], [8, 1, 4, 0])
    clipped = clip_tokens(rows, TokenLimits(total_tokens=12))
    assert clipped.prompt_tokens.tolist() == [10, 10, 11, 12] and clipped.output_tokens.tolist() == [2, 1, 1, 0]
    assert clip_tokens(rows, TokenLimits(prompt_tokens=15, output_tokens=3)).prompt_tokens.tolist() == [10, 10, 15, 15]
    assert clip_tokens(rows, TokenLimits(prompt_tokens=15, output_tokens=3)).output_tokens.tolist() == [3, 1, 3, 0]
    assert clip_tokens(rows, TokenLimits()) is rows


def test_a_turn_is_kept_only_with_those_before_it() -> None:
    rows = table([0.0, 1.0, 1.0, 1.0], [10, 50, 10, 10], after=[-1, 0, 1, -1])
    assert len(shaped(rows, drop_prompt_tokens=20)) == 2
    assert root_arrivals(np.array([4.0, 1.0, 2.0, 9.0]), np.array([-1, 0, 1, -1])).tolist() == [4.0, 4.0, 4.0, 9.0]
    with pytest.raises(TraceError, match="would break the dependencies"):
        shaped(rows, resample=3)


def test_think_times_are_gaps_less_answers() -> None:
    rows = table([0.0, 3.0, 10.0, 11.0], session=[7, 8, 7, 8], elapsed_s=[4.0, 9.0, np.nan, 1.0])
    turned = make_dependent(rows)
    assert turned.after.tolist() == [-1, -1, 0, 1] and turned.arrival_s.tolist() == [0.0, 3.0, 6.0, 0.0]
    assert make_dependent(table([0.0, 3.0], session=[7, 7])).arrival_s.tolist() == [0.0, 3.0], "no answer times: all of it is thinking"
    for options, words in (({}, "no sessions"), ({"resample": 3}, "no sessions")):
        with pytest.raises(TraceError, match=words):
            shaped(table([0.0]), sessions="dependent", **options)
    with pytest.raises(TraceError, match="breaks sessions apart"):
        shaped(rows, sessions="dependent", resample=3)


def test_rows_are_chosen_by_label() -> None:
    rows = table([0.0, 1.0, 2.0], label_model=labels("a", "b", "c"), log_type=labels("x", "y", "y"))
    assert shaped(rows, model="b").arrival_s.tolist() == [1.0] and shaped(rows, model=("a", "c"), log_type="y").arrival_s.tolist() == [2.0]
    with pytest.raises(TraceError, match="'d' does not occur"):
        shaped(rows, model="d")
    with pytest.raises(TraceError, match="does not say the log type"):
        shaped(table([0.0]), log_type="x")
    for options, words in (({"clip": 3}, "clip"), ({"clip_tokens": 3}, "clip.tokens"), ({"limits": 3}, "did you mean 'limit'")):
        with pytest.raises(TraceError, match=words):
            options_from(options)
    assert options_from({"clip_total_tokens": 9, "model": "b"}).clip.total_tokens == 9


def test_resampled_rows_are_rows_of_the_trace_in_order() -> None:
    rows = table([float(k) for k in range(50)])
    drawn = shaped(rows, resample=200, start_s=10.0)
    assert len(drawn) == 200 and drawn.arrival_s.tolist() == sorted(drawn.arrival_s) and len(set(drawn.arrival_s.tolist())) > 35
    assert shape(rows, Shaping(resample=200), 1, "t").arrival_s.tolist() != shape(rows, Shaping(resample=200), 2, "t").arrival_s.tolist()


# ---- statistics ----


def test_statistics_of_four_rows() -> None:
    rows = table([0.0, 1.0, 61.0, 63.0], [10, 20, 30, 0], [1, 2, 3, 0], session=[4, 4, -1, 5], label_model=labels("a", "b", "a", "a"))
    found = trace_statistics(rows)
    assert (found["rows"], found["failures"], found["dependent"]) == (4, 1, 0)
    assert (found["prompt_tokens_total"], found["output_tokens_total"]) == (60, 6)
    assert found["prompt_tokens"]["mean"] == 20 and found["prompt_tokens"]["min"] == 10 and found["prompt_tokens"]["max"] == 30
    assert found["prompt_output_correlation"] == pytest.approx(1.0) and found["models"] == {"a": 3, "b": 1}
    arrivals = found["arrivals"]
    assert (arrivals["span_s"], arrivals["busiest_minute_requests"]) == (63.0, 2) and arrivals["rate_per_s"] == 3 / 63
    assert arrivals["gap_s"]["mean"] == 21.0 and arrivals["gap_cv"] == pytest.approx(np.std([1, 60, 2]) / 21)
    sessions = found["sessions"]
    assert (sessions["sessions"], sessions["rows_in_sessions"], sessions["single_turn_fraction"]) == (2, 3, 0.5)
    assert sessions["gap_s"]["max"] == 1.0 and sessions["prompt_growth_tokens"]["max"] == 10
    assert set(found["prompt_tokens"]) == {"mean", "sd", "min", "max", *(f"p{round(100 * q)}" for q in QUANTILES)}
    waiting = trace_statistics(table([0.0, 7.0], session=[1, 1], after=[-1, 0]))
    assert waiting["dependent"] == 1 and waiting["sessions"]["think_s"]["max"] == 7.0 and waiting["arrivals"]["rate_per_s"] is None


def test_lengths_that_go_with_each_other_and_against() -> None:
    def correlation(prompt: list[int], output: list[int]) -> Any:
        return trace_statistics(table([0.0] * len(prompt), prompt, output))["prompt_output_correlation"]

    assert correlation([1, 2, 3], [20, 40, 60]) == pytest.approx(1)
    assert correlation([1, 2, 3], [60, 40, 20]) == pytest.approx(-1)
    assert correlation([1, 2, 3, 4], [1, 2, 2, 1]) == pytest.approx(0)
    assert correlation([1, 2, 3], [60, 40, 0]) == pytest.approx(-1), "a failed request has no length"
    for without in ([5, 5], [1, 2]), ([1, 2], [5, 5]), ([1], [2]):
        assert correlation(*without) is None


def test_a_session_counts_its_turns_and_the_growth_of_its_prompts() -> None:
    found = trace_statistics(table([0.0, 1.0, 4.0, 6.0], [10, 7, 25, 9], session=[3, 8, 3, -1]))["sessions"]
    assert (found["sessions"], found["rows_in_sessions"], found["single_turn_fraction"]) == (2, 3, 0.5)
    assert found["turns"]["min"] == 1 and found["turns"]["max"] == 2
    assert found["gap_s"]["min"] == found["gap_s"]["max"] == 4.0 and found["prompt_growth_tokens"]["mean"] == 15
    assert trace_statistics(table([0.0, 1.0]))["sessions"] is None
    zeroth = trace_statistics(table([0.0, 1.0], session=[0, 0]))["sessions"]
    assert zeroth["sessions"] == 1 and zeroth["rows_in_sessions"] == 2


def test_arrivals_of_a_trace() -> None:
    found = trace_statistics(table([10.0, 59.9, 60.0, 119.9, 130.0]))["arrivals"]
    assert found["span_s"] == 120.0 and found["rate_per_s"] == 4 / 120.0 and found["busiest_minute_requests"] == 2
    gaps = np.diff([10.0, 59.9, 60.0, 119.9, 130.0])
    assert found["gap_cv"] == pytest.approx(gaps.std() / 30.0) and found["gap_s"]["mean"] == pytest.approx(30.0)
    at_once = trace_statistics(table([5.0, 5.0, 5.0]))["arrivals"]
    assert at_once["rate_per_s"] is None and at_once["gap_cv"] is None and at_once["busiest_minute_requests"] == 3
    one = trace_statistics(table([5.0]))["arrivals"]
    assert one["span_s"] == 0.0 and one["gap_s"] is None and one["busiest_minute_requests"] == 1
    none = trace_statistics(table([]))["arrivals"]
    assert none["busiest_minute_requests"] == 0 and none["rate_per_s"] is None


def test_dispersion_needs_ten_whole_windows() -> None:
    even = np.arange(0.0, 100.0)
    assert index_of_dispersion(even, 10.0, 100.0) == 0.0
    assert index_of_dispersion(even, 10.0) is None, "the last window is not whole: 9"
    assert index_of_dispersion(even[:0], 1.0) is None
    assert index_of_dispersion(np.repeat([5.0, 25.0, 45.0, 65.0, 85.0], 2), 10.0, 100.0) == 1.0, "0 and 2 in turn: mean 1, variance 1"


# ---- generators ----


def test_equal_gaps_and_ends() -> None:
    dice = np.random.default_rng(0)
    assert arrival_times(Constant(rate_per_s=2.0), dice, count=3).tolist() == [0.5, 1.0, 1.5]
    assert arrival_times(Constant(rate_per_s=2.0), dice, duration_s=1.5).tolist() == [0.5, 1.0]
    assert arrival_times(Constant(rate_per_s=2.0), dice, count=9, duration_s=1.5).tolist() == [0.5, 1.0]
    assert len(arrival_times(Constant(rate_per_s=1.0), dice, duration_s=5000.5)) == 5000
    assert len(arrival_times(Gamma(rate_per_s=0.5, cv=100.0), dice, duration_s=100_000.0)) >= 0


def test_rates_in_the_long_run() -> None:
    stretches = Piecewise(pieces=(RatePiece(duration_s=10, rate_per_s=4), RatePiece(duration_s=30, rate_per_s=0)))
    assert stretches.mean_rate_per_s() == 1.0
    assert [part.tolist() for part in stretches.cycle()] == [[0, 10, 40], [0, 40, 40]]
    day = Diurnal(rate_per_s=3.0)
    times, expected = day.cycle()
    assert day.mean_rate_per_s() == 3.0 and times[-1] == 86400.0 and expected[-1] == pytest.approx(3 * 86400)
    rate = np.diff(expected) / np.diff(times)
    assert rate.max() / rate.min() == pytest.approx(4.0, rel=1e-4) and times[rate.argmax()] == pytest.approx(54000, abs=90)
    assert (day.peak_to_trough, day.period_s, day.peak_s) == (4.0, 86400.0, 54000.0)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Gamma, {"rate_per_s": 1, "cv": 0.0009}), (Gamma, {"rate_per_s": 1, "cv": 101}), (Weibull, {"rate_per_s": 1, "shape": 0.09}),
        (Weibull, {"rate_per_s": 1, "shape": 1001}), (Diurnal, {"rate_per_s": 1, "peak_to_trough": 0.9}), (Piecewise, {"pieces": ()}),
        (Piecewise, {"pieces": ({"duration_s": 1, "rate_per_s": 1e-30},)}), (RatePiece, {"duration_s": 0, "rate_per_s": 1}),
        (RatePiece, {"duration_s": 1, "rate_per_s": -1}), (Fixed, {"tokens": 0}), (Uniform, {"low_tokens": 0, "high_tokens": 1}),
        (Normal, {"mean_tokens": 0, "sd_tokens": 1}), (Normal, {"mean_tokens": 1, "sd_tokens": -1}),
        (Normal, {"mean_tokens": 1, "sd_tokens": 1, "min_tokens": 3, "max_tokens": 2}), (Lognormal, {"median_tokens": 0, "sigma": 1}),
        (Lognormal, {"median_tokens": 1, "sigma": 11}), (Zipf, {"exponent": -1, "high_tokens": 3}),
        (Zipf, {"exponent": 21, "high_tokens": 3}),
        (Zipf, {"exponent": 1, "low_tokens": 3, "high_tokens": 2}), (Zipf, {"exponent": 1, "high_tokens": 10_000_001}),
    ],
)  # fmt: skip
def test_distributions_that_there_are_not(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind(**values)


def test_distributions_at_their_edges() -> None:
    dice = np.random.default_rng(0)
    assert set(Uniform(low_tokens=4, high_tokens=4).sample(dice, 9).tolist()) == {4}
    assert set(Zipf(exponent=0, low_tokens=2, high_tokens=4).sample(dice, 200).tolist()) == {2, 3, 4}
    assert set(Zipf(exponent=20, high_tokens=9).sample(dice, 50).tolist()) == {1}
    assert set(Normal(mean_tokens=5, sd_tokens=0).sample(dice, 9).tolist()) == {5}
    assert set(Normal(mean_tokens=5, sd_tokens=0, min_tokens=7, max_tokens=7).sample(dice, 9).tolist()) == {7}
    assert Lognormal(median_tokens=10, sigma=0).max_tokens == 131_072 and Lognormal(median_tokens=10, sigma=0).min_tokens == 1
    assert set(Lognormal(median_tokens=10, sigma=0).sample(dice, 9).tolist()) == {10}


# ---- the section of an experiment ----

LENGTHS = {"prompt": {"kind": "fixed", "tokens": 8}, "output": {"kind": "fixed", "tokens": 4}}
OPEN = {"lengths": LENGTHS, "arrivals": {"kind": "constant", "rate_per_s": 1.0}}


def built(tmp_path: Any, **section: Any) -> Workload:
    return build_workload(WorkloadConfig.model_validate(section), tmp_path, 0)


def test_how_many_requests_and_until_when(tmp_path: Any) -> None:
    assert len(built(tmp_path, **OPEN, count=7).requests) == 7
    assert built(tmp_path, **OPEN, duration_s=3.5).requests.arrival_s.tolist() == [1.0, 2.0, 3.0]
    closed = built(tmp_path, lengths=LENGTHS, count=5, closed_loop={"concurrency": 2, "think_s": 3.0})
    assert (closed.concurrency, closed.think_s, closed.max_concurrency) == (2, 3.0, None) and len(closed.requests) == 5
    assert built(tmp_path, **OPEN, count=3, max_concurrency=2).max_concurrency == 2
    assert ClosedLoop(concurrency=1).think_s == 0.0
    with pytest.raises(ConfigError, match="no request arrives"):
        built(tmp_path, **OPEN, duration_s=0.5)


def test_what_a_client_states_is_what_it_gets_at_most(tmp_path: Any) -> None:
    exact = built(tmp_path, **OPEN, count=2, max_output_tokens="output").requests
    assert exact.max_output_tokens.tolist() == exact.output_tokens.tolist() == [4, 4]
    short = built(tmp_path, **OPEN, count=2, max_output_tokens=3).requests
    assert short.max_output_tokens.tolist() == short.output_tokens.tolist() == [3, 3]
    ample = built(tmp_path, **OPEN, count=2, max_output_tokens=30).requests
    assert ample.output_tokens.tolist() == [4, 4] and ample.max_output_tokens.tolist() == [30, 30]


def test_classes_share_what_no_rule_takes(tmp_path: Any) -> None:
    rules = [{"name": "chat", "fraction": 0.25, "priority": 2}, {"name": "batch", "fraction": 0.25}]
    rows = built(tmp_path, **OPEN, count=4000, slo_classes=rules, priority=1).requests
    named = np.array(rows.slo_class.names)[rows.slo_class.codes]
    fraction = {name: float((named == name).mean()) for name in ("chat", "batch", "default")}
    assert fraction == {
        "chat": pytest.approx(0.25, abs=0.03),
        "batch": pytest.approx(0.25, abs=0.03),
        "default": pytest.approx(0.5, abs=0.03),
    }
    assert set(rows.priority[named == "chat"].tolist()) == {2} and set(rows.priority[named != "chat"].tolist()) == {1}
    every = built(tmp_path, **OPEN, count=50, slo_classes=[{"name": "a", "fraction": 0.5}, {"name": "b", "fraction": 0.5}]).requests
    assert "default" not in np.array(every.slo_class.names)[every.slo_class.codes]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"lengths": LENGTHS, "count": 3}, "need 'arrivals' or a 'closed_loop'"),
        ({"lengths": LENGTHS, "closed_loop": {"concurrency": 1}, "duration_s": 3}, "need a 'count'"),
        (OPEN, "need a 'count'"),
        (OPEN | {"count": 3, "max_output_tokens": 0}, "at least 1"),
        (OPEN | {"count": 3, "max_output_tokens": 10**9}, "at most"),
        (OPEN | {"count": 3, "closed_loop": {"concurrency": 1}, "max_concurrency": 1}, "caps arrivals"),
        (OPEN | {"count": 3, "slo_classes": [{"name": "a", "fraction": 0.6}, {"name": "b", "fraction": 0.5}]}, "add up to 1.1"),
        (OPEN | {"arrivals": {"kind": "constant", "rate_per_s": 1e4}, "duration_s": 1e6}, "at most"),
        ({"trace": {"path": "x"}, "burstgpt_like": {}}, "not both"),
        ({"trace": {"path": "x"}, "count": 3}, "comes from the source"),
        ({"trace": {"path": "x"}, "duration_s": 3}, "comes from the source"),
    ],
)
def test_sections_that_make_no_requests(section: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        WorkloadConfig.model_validate(section)


@pytest.mark.parametrize(
    "rule", [{}, {"fraction": 0.5, "model": "a"}, {"fraction": 0.5, "log_type": "a"}, {"fraction": 0.0}, {"fraction": 1.1}]
)
def test_a_class_is_given_by_label_or_by_share(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SloClassRule(name="n", **rule)
    assert SloClassRule(name="n", fraction=1.0).fraction == 1.0 and SloClassRule(name="n", model="a", log_type="b").fraction is None


@pytest.mark.parametrize("given", [{}, {"prompt": Fixed(tokens=1)}, {"output": Fixed(tokens=1)}])
def test_lengths_are_a_pair_or_a_trace(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="both 'prompt' and 'output'"):
        Lengths(**given)
    if given:
        with pytest.raises(ValidationError, match="not both"):
            Lengths.model_validate({**given, "trace": {"path": "x"}})
