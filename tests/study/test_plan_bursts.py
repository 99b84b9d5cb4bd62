"""What bursts cost at least: no schedule and no simulation serves more of them in time than the bound says."""

from __future__ import annotations

import copy
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simserve
from simserve.study.limits import limits
from simserve.study.plan.bounds import bounds
from simserve.study.plan.bursts import Prompts, best_in_bursts, first_token_within_s
from simserve.study.plan.figures import Fate
from simserve.study.plan.offered import fresh_loads, offered
from simserve.study.plan.runs import Found
from simserve.study.plan.search import plan
from simserve.study.plan.verify import settled
from simserve.study.predicate import parse

BURSTS: dict[str, Any] = {
    "name": "bursts",
    "model": "llama-3.1-8b",
    "hardware": "a100-sxm-80gb",
    "workload": {
        "arrivals": {"kind": "piecewise", "pieces": [{"duration_s": 2, "rate_per_s": 60}, {"duration_s": 60, "rate_per_s": 0.5}]},
        "lengths": {
            "prompt": {"kind": "lognormal", "median_tokens": 800, "sigma": 0.6, "max_tokens": 4096},
            "output": {"kind": "lognormal", "median_tokens": 40, "sigma": 0.5, "max_tokens": 256},
        },
        "count": 150,
    },
    "slo": {"ttft_s": 1.0},
    "plan": {"when": "attainment >= 0.9", "budget": {"devices": 4}, "tp": [1], "replicates": 2, "finalists": 1},
}


def prompts(*rows: tuple[float, float], outside_s: float = 0.0) -> Prompts:
    arrival_s, work_s = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    return Prompts(arrival_s, work_s, outside_s)


def test_three_seconds_of_work_at_once_by_hand() -> None:
    three = prompts((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    assert three.longest_wait_s(1) == 3.0 and three.longest_wait_s(3) == 1.0
    assert [three.late(within, 1) for within in (0.5, 1.0, 2.0, 3.0)] == [3, 2, 1, 0]
    assert three.late(1.0, 2) == 1 and three.late(1.0, 3) == 0
    assert three.percentile_s(0.5, 1) == pytest.approx(2.0, abs=0.01) and three.percentile_s(1.0, 1) == pytest.approx(3.0, abs=0.01)
    assert three.percentile_s(1.0, 1) <= 3.0


def test_the_largest_is_given_up_and_what_passes_by_is_forgotten() -> None:
    assert prompts((0.0, 5.0), (0.0, 1.0), (0.0, 1.0)).late(2.0, 1) == 1, "without the large one the small ones are in time"
    apart = prompts((0.0, 5.0), (10.0, 1.0), (10.0, 1.0), (10.0, 1.0))
    assert apart.late(2.0, 1) == 2, "a request of a burst long past cannot be given up for one of this"
    assert prompts((0.0, 1.0), (0.0, 1.0), outside_s=0.5).late(2.0, 1) == 1, "half a second of the limit passes elsewhere"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5)), min_size=1, max_size=7),
    st.sampled_from([1.0, 2.0, 4.0]),
    st.sampled_from([1, 2]),
)
def test_no_choice_of_requests_loses_fewer(rows: list[tuple[int, int]], within_s: float, instances: int) -> None:
    """Every subset that is served, in order of arrival by one machine: none that is in time leaves out fewer than the bound."""
    rows = sorted(rows)

    def in_time(kept: tuple[int, ...]) -> bool:
        free_s = 0.0
        for place in kept:
            arrival_s, work_s = rows[place]
            free_s = max(free_s, arrival_s) + work_s / instances
            if free_s > arrival_s + within_s + 1e-9:
                return False
        return True

    numbers = range(len(rows))
    fewest = next(lost for lost in range(len(rows) + 1) if any(in_time(k) for k in combinations(numbers, len(rows) - lost)))
    bound = prompts(*((float(a), float(w)) for a, w in rows)).late(within_s, instances)
    assert bound <= fewest and (bound > 0) == (fewest > 0)


def test_no_simulation_meets_more_than_the_bound() -> None:
    wanted = parse("attainment >= 0.5 and ttft.p90 <= 9 and ttft.p50 <= 9").quantities
    placed = simserve.load(BURSTS)
    load = offered(placed)
    known = bounds(placed, load, wanted, fresh_loads(placed, load, [1, 2]))
    assert len(known.prompts) == 2 and known.within_s == 1.0
    found = simserve.sweep(placed, seeds=[1, 2], jobs=1).frame.mean(numeric_only=True)
    best = known.best_in_bursts((1,), wanted)
    assert found["attainment"] <= best["attainment"] < 0.95 and best["ttft_p90_s"] <= found["ttft_p90_s"] * 1.02
    assert found["ttft_p90_s"] < 2.5 * best["ttft_p90_s"], "and it is near"


def test_a_burst_eliminates_without_a_run_what_the_mean_load_does_not() -> None:
    result = plan(BURSTS, jobs=1)
    one = next(each for each in result.outcomes if each.devices == 1)
    assert one.fate == Fate.OVERLOADED and one.utilisation is not None and one.utilisation < 0.5 and one.fraction == 0.0
    assert one.why.startswith("attainment >= 0.9 (at most 0.") and one.why.endswith("however its bursts are served)")
    assert result.best is not None and result.best.devices > 1


def test_where_waiting_is_not_bounded() -> None:
    wanted = parse("attainment >= 0.5").quantities
    closed = copy.deepcopy(BURSTS)
    closed["workload"] = {**closed["workload"], "closed_loop": {"concurrency": 8}}
    del closed["workload"]["arrivals"]
    for source in (closed, {**BURSTS, "metrics": {"warmup_s": 1.0}}, {**BURSTS, "until_s": 5.0}):
        placed = simserve.load(source)
        load = offered(placed)
        known = bounds(placed, load, wanted, fresh_loads(placed, load, [1]))
        assert not known.prompts and known.best_in_bursts((1,), wanted) == {}
    free = simserve.load({**BURSTS, "slo": {"tpot_s": 0.05}})
    assert first_token_within_s(free, offered(free)) is None
    assert best_in_bursts([prompts((0.0, 9.0))], 1, None, wanted) == {}


def test_a_trace_that_no_seed_changes_is_looked_at_once() -> None:
    trace = simserve.load("quickstart")
    assert len(fresh_loads(trace, offered(trace), [1, 2, 3])) == 1
    drawn = simserve.load(BURSTS)
    assert len(fresh_loads(drawn, offered(drawn), [1, 2, 3])) == 3


def test_replicates_end_when_no_limit_lies_inside_the_interval() -> None:
    (limit,) = limits(parse("ttft.p99 <= 1"))
    spec = simserve.load({**BURSTS, "slo": {}})
    rows = [Found({"ttft_p99_s": value}, None) for value in (0.5, 0.6)]
    assert settled(rows, [limit], spec) and not settled(rows[:1], [limit], spec)
    assert not settled([Found({"ttft_p99_s": value}, None) for value in (0.5, 0.9)], [limit], spec), "0.7 give or take 0.62"
    assert settled([Found({"ttft_p99_s": value}, None) for value in (5.0, 5.1)], [limit], spec), "certain that it misses it"


def test_a_seed_that_refuted_a_plan_is_the_first_for_the_next_and_ranks_nothing() -> None:
    """Two plans of one cost, each fine on the search's seed 0; seed 2 refutes the first, so the second meets it before any other."""
    from simserve.study.plan.runs import Wanted
    from simserve.study.plan.screen import Screen, Screened

    asked: list[tuple[str, float, int]] = []

    class Load:
        requests = 900

    class Runs:
        load = Load()

        def of(self, wanted: list[Wanted]) -> list[Found]:
            asked.extend((one.plan.name, one.fraction, one.seed) for one in wanted)
            bad = {("b", 2): 0.6}
            return [Found({"attainment": bad.get((one.plan.name, one.seed), 0.95), "saturated": 0.0}, None) for one in wanted]

    class Plan:
        order = 1.0

        def __init__(self, name: str) -> None:
            self.name = name

    plans: list[Any] = [Screened(Plan(name), 0.5) for name in "abc"]  # type: ignore[arg-type]
    screen = Screen(plans, parse("attainment >= 0.9"), Runs(), 0, 3)  # type: ignore[arg-type]
    held = screen.holding()
    assert next(held).plan.name == "a" and asked[-1] == ("a", 1.0, 0)
    screen.hardest = 2
    assert next(held).plan.name == "c" and asked[-2:] == [("b", 1.0, 2), ("c", 1.0, 2)]
    assert plans[1].refuted and plans[1].why == "attainment >= 0.9 (found 0.6) on fresh seed 2, which decides it"
    assert plans[2].margin == plans[0].margin, "ranked by the seed of the search alone"
    assert screen.near_misses(9.0) == [], "what a fresh seed refuted gets no second try"
