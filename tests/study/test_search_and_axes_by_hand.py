"""Small pieces of studies by hand: the search for the highest rate, values of axes, intervals of means, keys of a rate, limits of texts."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

import simserve
from simserve.errors import ConfigError
from simserve.study.paired import compare
from simserve.study.predicate import parse, parse_quantity
from simserve.study.rate_key import rate_key, unit, value_at
from simserve.study.search import MAX_DOUBLINGS, Search
from simserve.study.statistics import mean_interval
from simserve.study.sweep.axes import Range, Values, axis, label, name_of, option
from simserve.study.sweep.design import design, refuse_too_many
from tests.study.conftest import RATE, TINY


def probed(search: Search, highest: float, ends: tuple[float, float] = (-math.inf, math.inf)) -> list[float]:
    """The rates that a search asks for where everything up to `highest` holds; beyond the `ends` nothing changes any more."""
    rates = []
    while (rate := search.next_rate()) is not None:
        rates.append(rate)
        search.tell(rate, rate <= highest, at_an_end=rate <= ends[0] or rate >= ends[1])
    return rates


def test_doubling_then_geometric_bisection() -> None:
    search = Search(1.0, 0.5)
    assert probed(search, 5.0) == [1.0, 2.0, 4.0, 8.0, float(f"{math.sqrt(32):.6g}")]
    assert (search.low, search.high, search.outcome) == (4.0, 5.65685, "found")


def test_halving_when_the_first_rate_fails() -> None:
    search = Search(8.0, 1.0)
    assert probed(search, 1.5) == [8.0, 4.0, 2.0, 1.0]
    assert (search.low, search.high, search.outcome) == (1.0, 2.0, "found"), "a bracket as wide as the tolerance is narrow enough"


def test_clients_are_whole() -> None:
    search = Search(1.0, 0.0, whole=True)
    assert probed(search, 6) == [1, 2, 4, 8, 6, 7]
    assert (search.low, search.high, search.outcome) == (6, 7, "found")
    failing = Search(3.0, 0.1, whole=True)
    assert probed(failing, 0) == [3, 2, 1] and failing.outcome == "never"


def test_whole_rates_stay_inside_their_bracket() -> None:
    search = Search(2.0, 0.0, whole=True, low=2.0, high=4.0)
    assert search.next_rate() == 3.0
    assert Search(2.0, 0.0, whole=True, low=1.0, high=3.0).next_rate() == 2.0


def test_an_end_of_the_road_is_an_answer() -> None:
    always = Search(1.0, 0.1)
    assert probed(always, math.inf, (0, 4.0)) == [1.0, 2.0, 4.0] and always.outcome == "always"
    never = Search(4.0, 0.1)
    assert probed(never, 0.0, (1.0, 9e9)) == [4.0, 2.0, 1.0] and never.outcome == "never"
    endless = Search(1.0, 0.1)
    assert len(probed(endless, math.inf)) == MAX_DOUBLINGS + 1 and endless.outcome == "always"


def test_the_rate_that_is_printed_is_the_one_that_is_run() -> None:
    assert Search(1 / 3, 0.1).next_rate() == 0.333333


# ---- intervals ----


def test_students_interval_of_a_mean() -> None:
    """1, 2, 3: t(0.975; 2) = 4.3027 standard errors of 1 / sqrt 3; at 90 % t = 2.92."""
    assert mean_interval([1, 2, 3]) == pytest.approx((2, 2 - 4.302652730 / math.sqrt(3), 2 + 4.302652730 / math.sqrt(3)))
    assert mean_interval([1, 2, 3], 0.9)[2] == pytest.approx(2 + 2.919985580 / math.sqrt(3))
    assert mean_interval([5.0]) == (5.0, -math.inf, math.inf)
    assert mean_interval([4.0, 4.0]) == (4.0, 4.0, 4.0)


@pytest.mark.parametrize(
    ("difference", "verdict", "better"),
    [((1.0, 1.0), "higher", "first"), ((-1.0, -1.0), "lower", "second"), ((-1.0, 1.0), "not told apart", ""), ((0.0, 0.0), "equal", "")],
)
def test_which_way_is_better_depends_on_the_figure(difference: tuple[float, float], verdict: str, better: str) -> None:
    row = compare(parse_quantity("ttft.p99"), [10.0, 20.0], [10.0 + difference[0], 20.0 + difference[1]])
    assert (row.verdict, row.better) == (verdict, better)
    other = {"first": "second", "second": "first", "": ""}[better]
    assert compare(parse_quantity("goodput"), [10.0, 20.0], [10.0 + difference[0], 20.0 + difference[1]]).better == other


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.1, 1.5])
def test_a_confidence_lies_between_0_and_1(confidence: float) -> None:
    with pytest.raises(ConfigError, match="confidence"):
        simserve.paired(TINY, TINY, ["ttft.p50"], replicates=2, confidence=confidence, jobs=1)


# ---- keys of a rate ----


def test_what_a_rate_counts() -> None:
    assert unit("workload.arrivals.rate_per_s") == "requests/s"
    assert unit("workload.trace.rate_scale") == "x the trace's own rate"
    assert unit("workload.burstgpt_like.rate_scale") == "x the workload's own rate"
    assert unit("workload.closed_loop.concurrency") == "clients"
    assert unit("cluster.instances.0.scheduler.max_seqs") == "max_seqs"


def test_the_key_that_makes_the_load_heavier() -> None:
    tiny = copy.deepcopy(TINY)
    assert rate_key(simserve.load(tiny)) == RATE and value_at(simserve.load(tiny), RATE) == 4.0
    del tiny["workload"]["arrivals"]
    tiny["workload"]["closed_loop"] = {"concurrency": 3}
    assert rate_key(simserve.load(tiny)) == "workload.closed_loop.concurrency"
    tiny["workload"] = {"burstgpt_like": {"days": 0.01}}
    assert rate_key(simserve.load(tiny)) == "workload.burstgpt_like.rate_scale"
    tiny["workload"] = {"trace": {"path": "burstgpt-sample", "limit": 5}}
    assert rate_key(simserve.load(tiny)) == "workload.trace.rate_scale"


@pytest.mark.parametrize(
    "key", ["workload.count.x", "cluster.instances.1.scheduler.max_seqs", "name", "fast_forward", "nowhere", "warmup_s"]
)
def test_a_rate_is_a_number_above_0(key: str) -> None:
    with pytest.raises(ConfigError, match="expected a number above 0"):
        value_at(simserve.load(TINY), key)
    assert value_at(simserve.load(TINY), "cluster.instances.0.scheduler.max_seqs") == 64


# ---- axes ----


def test_a_range_holds_both_ends() -> None:
    linear = Range("k", 1.0, 2.0, 3)
    assert [linear.at(i) for i in range(3)] == [1.0, 1.5, 2.0] and len(linear) == 3
    log = Range("k", 1.0, 16.0, 5, logarithmic=True)
    assert [log.at(i) for i in range(5)] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert Range("k", 3.0, 9.0, 1).at(0) == 3.0
    assert Range("k", 0.1, 0.5, 5).at(2) == 0.3
    assert Range("k", 1.0, 10.0, 4, whole=True).at(1) == 4 and isinstance(Range("k", 1.0, 10.0, 4, whole=True).at(1), int)


def test_whole_numbers_are_drawn_equally_often() -> None:
    dice = Range("k", 1, 6, whole=True)
    assert [dice.draw(fraction) for fraction in (0.0, 0.16, 0.17, 0.5, 0.99)] == [1, 1, 2, 4, 6]
    assert Range("k", 0.0, 8.0).draw(0.25) == 2.0
    assert Range("k", 1.0, 16.0, logarithmic=True).draw(0.25) == 2.0
    assert Range("k", 1, 16, logarithmic=True, whole=True).draw(0.26) == 2
    listed = Values("k", ("a", "b", "c"))
    assert [listed.draw(fraction) for fraction in (0.0, 0.33, 0.34, 0.67, 0.999999, 1.0)] == ["a", "a", "b", "c", "c", "c"]


def test_how_an_axis_may_be_written() -> None:
    assert axis("k", [1, 2]) == Values("k", (1, 2)) and axis("k", 5) == Values("k", (5,))
    assert axis("k", {"low": 1, "high": 4, "steps": 4}) == Range("k", 1.0, 4.0, 4)
    assert axis("k", {"low": 1, "high": 4}) == Range("k", 1.0, 4.0, None, False, True), "whole ends without steps mean whole numbers"
    assert axis("k", {"low": 1.0, "high": 4}).whole is False  # type: ignore[union-attr]
    assert axis("k", {"low": 2, "high": 2, "scale": "log", "whole": True}) == Range("k", 2.0, 2.0, None, True, True)
    named = axis("k", {"small": 256, "large": 2048})
    assert named == Values("k", (256, 2048), {"256": "small", "2048": "large"})
    assert option("a.b=1,2") == Values("a.b", (1, 2)) and option("k={low: 1, high: 2, steps: 2}") == Range("k", 1.0, 2.0, 2)
    assert option("k={a: 1}") == Values("k", ({"a": 1},)) and option("k=[[1, 2]]") == Values("k", ([1, 2],))
    assert label({"b": 1, "a": 2}) == name_of({"a": 2, "b": 1}) == '{"a": 2, "b": 1}'
    assert label(True) is True and label(None) is None and label(1.5) == 1.5 and label("x") == "x"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ([], "empty list"),
        ({}, "an empty mapping"),
        ({"low": 1}, "found a mapping with 'low'"),
        ({"low": 1, "high": 2, "step": 3}, "did you mean 'steps'"),
        ({"low": 3, "high": 2}, "low 3 is above high 2"),
        ({"low": 0, "high": 2, "scale": "log"}, "low above 0"),
        ({"low": 1, "high": 2, "steps": 0}, "whole number >= 1"),
        ({"low": 1, "high": 2, "steps": True}, "whole number >= 1"),
        ({"low": 1, "high": 2, "whole": 1}, "expected true or false"),
        ({"low": 1, "high": math.inf}, "expected a number"),
        ({"low": True, "high": 2}, "expected a number"),
        ({"low": 1, "high": 2, "scale": "logg"}, "did you mean 'log'"),
        ({"a": 1, "b": 1}, "are the same value"),
        ({" ": 1}, "a text that is not empty"),
        ({3: 1}, "a text that is not empty"),
    ],
)
def test_axes_that_make_no_sense(spec: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        axis("k", spec)


@pytest.mark.parametrize("text", ["k", "=1", "k=", "k= ", "k=1,,2"])
def test_options_that_make_no_sense(text: str) -> None:
    with pytest.raises(ConfigError, match="--over"):
        option(text)


# ---- designs ----

TWO = (Values("a", (1, 2)), Values("b", ("x", "y", "z")))


def test_the_last_axis_of_a_grid_changes_fastest() -> None:
    plan = design(TWO)
    assert [tuple(point.values()) for point in plan][:4] == [(1, "x"), (1, "y"), (1, "z"), (2, "x")]
    assert plan.count() == 6 and plan.sizes() == "2 x 3" and plan.keys == ("a", "b") and next(iter(plan)) == {"a": 1, "b": "x"}
    assert design(TWO[:1]).sizes() == ""


def test_a_latin_hypercube_takes_each_part_of_an_axis_once() -> None:
    points = [point["k"] for point in design((Range("k", 0.0, 10.0),), method="latin-hypercube", sample=10, sample_seed=3)]
    assert sorted(int(value) for value in points) == list(range(10))
    again = [point["k"] for point in design((Range("k", 0.0, 10.0),), method="latin-hypercube", sample=10, sample_seed=3)]
    assert again == points != [p["k"] for p in design((Range("k", 0.0, 10.0),), method="latin-hypercube", sample=10, sample_seed=4)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"axes": TWO, "points": [{"a": 1}]}, "not both"),
        ({"points": []}, "nothing to sweep"),
        ({"points": {" ": {}}}, "name of a point"),
        ({"points": [3]}, "expected a mapping"),
        ({"axes": (TWO[0], TWO[0])}, "'a' is given twice"),
        ({"axes": (Values("seed", (1,)),)}, "seeds are replicates"),
        ({"axes": TWO, "sample": 3}, "say how with method"),
        ({"axes": TWO, "method": "random"}, "needs 'sample'"),
        ({"axes": TWO, "method": "random", "sample": 0}, "needs 'sample'"),
        ({"method": "random", "sample": 1}, "needs keys to sample"),
        ({"axes": (Range("k", 1.0, 2.0),)}, "needs 'steps'"),
        ({"axes": TWO, "method": "gird"}, "did you mean 'grid'"),
    ],
)
def test_designs_that_make_no_sense(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        design(**given)


def test_a_sweep_may_have_as_many_runs_as_the_limit() -> None:
    refuse_too_many(design(TWO), 2, 12)
    with pytest.raises(ConfigError, match=r"6 points \(2 x 3\) with 2 seeds each: 12 runs, more than the limit of 11"):
        refuse_too_many(design(TWO), 2, 11)
    with pytest.raises(ConfigError, match=r"has 6 points \(2 x 3\), more"):
        refuse_too_many(design(TWO), 1, 5)


# ---- predicates ----


def test_how_long_and_how_deep_a_predicate_may_be() -> None:
    text = "ttft.p99 <= 1" + " " * (1000 - 13)
    assert len(text) == 1000 and parse(text).holds({"ttft_p99_s": 1.0})
    with pytest.raises(ConfigError, match="more than 1,000"):
        parse(text + " ")
    # A comparison, its side and so many signs before a number.
    assert parse("ttft.p99 > " + "-" * 48 + "1").holds({"ttft_p99_s": 2.0})
    with pytest.raises(ConfigError, match="more than 50 levels"):
        parse("ttft.p99 > " + "-" * 49 + "1")


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("ttft.p99 + 1 < 3.1", True), ("ttft.p99 * 2 >= 4", True), ("ttft.p99 / 4 > 0.4", True), ("-ttft.p99 < 0", True),
        ("1 < ttft.p99 < 3", True), ("1 < ttft.p99 < 2", False), ("ttft.p99 < 3 < itl.p99", False), ("ttft.p99 > 3 and itl.p99 > 0", False),
        ("ttft.p99 < 3 or itl.p99 > 0", True), ("not (ttft.p99 > 3 and itl.p99 > 0)", True), ("ttft.p99 * 1e308 * 1e308 > 0", False),
    ],
)  # fmt: skip
def test_what_an_undefined_figure_decides(text: str, holds: bool) -> None:
    """With ttft.p99 = 2 and no itl: Kleene's logic."""
    assert parse(text).holds({"ttft_p99_s": 2.0, "itl_p99_s": None}) is holds
