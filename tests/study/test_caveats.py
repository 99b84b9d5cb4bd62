"""What searches say of themselves: each sentence with a situation in which it is right, and one in which it must not be said."""

from __future__ import annotations

from typing import Any

import pytest

import simserve
from simserve.errors import ConfigError
from simserve.study.capacity.figures import Probe, Replicate
from simserve.study.capacity.result import CapacityResult
from simserve.study.capacity.search import specify
from simserve.study.caveats import Run, at_an_end, better_with_load, losses, rare, unmeasured, unsteady
from simserve.study.placement.figures import Tried
from simserve.study.placement.placement import Placement, Pool
from simserve.study.placement.result import PlacementResult
from simserve.study.predicate import parse
from simserve.study.rate_key import unit
from tests.study.conftest import RATE

TTFT = parse("ttft.p99 <= 1").quantities


def _run(holds: bool, completed: int, total: int = 100, seed: int = 0, **values: float) -> Run:
    shown = {"requests": float(total), "completed_fraction": completed / total, "rejected": 0.0, "failed": 0.0, "failed_in_trace": 0.0}
    return Run(seed, holds, {**shown, "unfinished": 0.0, **values})


@pytest.mark.parametrize(
    ("runs", "tested", "said", "not_said"),
    [
        # The trace itself has failed rows: nothing can complete them, so nothing is advised.
        ([_run(True, 97, failed=3.0, failed_in_trace=3.0)], "ttft.p99 <= 1", ["3 of 100 requests failed in the trace itself"], ["add"]),
        # A heavier load that holds sheds requests: what is advised was reached by the lighter one.
        (
            [_run(True, 97, failed=3.0, failed_in_trace=3.0), _run(True, 80, failed=3.0, failed_in_trace=3.0, rejected=17.0)],
            "ttft.p99 <= 1",
            ["failed in the trace", "up to 17 rejected", "add 'completed >= 0.97'"],
            ["3 failed and"],
        ),
        # Rejected at every load (longer than the context): no predicate changes that.
        (
            [_run(True, 90, rejected=10.0), _run(False, 90, rejected=10.0)],
            "ttft.p99 <= 1",
            ["10 rejected (as many at every load)"],
            ["add"],
        ),
        # Of two seeds, the advice must hold for both.
        (
            [_run(True, 99, rejected=1.0), _run(True, 70, rejected=30.0), _run(True, 95, seed=1, rejected=5.0)],
            "ttft.p99 <= 1",
            ["add 'completed >= 0.95'"],
            [],
        ),
        # The predicate has seen the losses.
        ([_run(True, 99, rejected=1.0)], "attainment >= 0.9", [], ["rejected"]),
        ([_run(True, 99, rejected=1.0)], "classes.chat.attainment >= 0.9", ["1 rejected"], []),
        # It asks for what cannot be.
        ([_run(False, 97, failed=3.0, failed_in_trace=3.0)], "completed >= 1", ["'completed >= 0.97' is the strictest"], []),
        ([_run(True, 60, unfinished=40.0)], "ttft.p99 <= 1", ["40 unfinished when the run was cut"], ["add"]),
        ([_run(True, 100)], "ttft.p99 <= 1", [], ["requests"]),
        ([Run(0, True, {"ttft_p99_s": 1.0})], "ttft.p99 <= 1", [], ["requests"]),  # figures of an older version
    ],
)
def test_lost_requests(runs: list[Run], tested: str, said: list[str], not_said: list[str]) -> None:
    text = " ".join(losses(runs, parse(tested).quantities))
    assert all(part in text for part in said), text
    assert not any(part in text for part in not_said), text


def test_advice_can_hold() -> None:
    """1/3 written with four digits must not be rounded up to a fraction that no run reached."""
    third = [_run(True, 2, total=3, rejected=1.0), _run(True, 1, total=3, rejected=2.0)]
    (note,) = losses(third, TTFT)
    condition = note.split("'")[1]
    assert parse(condition).holds(third[0].values) and not parse(condition).holds(third[1].values)


def test_a_percentile_rests_on_the_requests_of_its_class() -> None:
    values = {"requests": 5000.0, "measured_requests": 4000.0, "chat.measured_requests": 300.0}
    assert rare(values, TTFT) == []
    (note,) = rare(values, parse("classes.chat.ttft.p99 <= 1").quantities)
    assert "about 3 of 300 requests" in note
    assert rare(values, parse("itl.p99_9 <= 1 and ttft.mean < 1").quantities) == []


def test_a_run_is_short_by_its_releases_not_by_a_bound() -> None:
    long_one = {"arrival_period_s": 100.0, "e2e_p50_s": 1.0, "simulated_s": 101.0, "e2e_max_s": 99.0}
    assert unsteady(long_one) == []  # the first request took all the time: end minus longest would have said 2 s
    (note,) = unsteady({**long_one, "arrival_period_s": 9.0})
    assert "released within 9 s" in note and "may" in note
    assert unsteady({"e2e_p50_s": 1.0}) == []
    assert "heaviest" not in unsteady({**long_one, "arrival_period_s": 9.0}, "")[0], "a plan has one load"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"measured_requests": 0.0}, True),  # all released in the warm-up, or none before the cut
        ({"measured_requests": 1.0}, False),
        ({"measured_requests": 0.0, "rejected": 60.0, "failed": 40.0}, False),  # it fails because it serves no request
        ({}, False),
    ],
)
def test_a_run_that_fails_because_nothing_was_measured_says_so(values: dict[str, float], said: bool) -> None:
    assert bool(unmeasured({"requests": 100.0, **values}, "2 requests/s")) is said


def test_a_search_whose_warm_up_outlasts_its_heavier_runs_says_so(tiny: dict[str, Any]) -> None:
    found = simserve.capacity(tiny | {"metrics": {"warmup_s": 20.0}}, "ttft.p99 <= 100", replicates=1, tolerance=0.5, jobs=1)
    assert any("no completed request was released in the measured window" in note for note in found.notes)
    assert not any("measured window" in note for note in simserve.capacity(tiny, "ttft.p99 <= 0.02", replicates=1, jobs=1).notes)


def test_a_cap_on_arrivals_is_said_where_the_load_is_their_rate(tiny: dict[str, Any]) -> None:
    capped = tiny | {"workload": tiny["workload"] | {"max_concurrency": 2}}
    found = simserve.capacity(capped, "ttft.p99 <= 100", replicates=1, tolerance=0.5, jobs=1)
    assert any("max_concurrency keeps all but 2 requests at the client" in note for note in found.notes)
    by_cap = simserve.capacity(capped, "tpot.p99 <= 0.001", rate_key="workload.max_concurrency", replicates=1, tolerance=0.5, jobs=1)
    assert not any("at the client" in note for note in by_cap.notes)


def test_all_at_once_leaves_out_what_never_enters() -> None:
    values = {"requests": 10.0, "rejected": 2.0, "failed_in_trace": 1.0, "in_system_max": 7.0}
    assert at_an_end(values, holds=True) and not at_an_end({**values, "in_system_max": 6.0}, holds=True)
    assert at_an_end({**values, "in_system_max": 1.0}, holds=False) and not at_an_end(values, holds=False)


def _probe(seed: int, rate: float, holds: bool, **values: float) -> Probe:
    reasons = () if holds else ("ttft.p99 <= 1 (found 2)",)
    return Probe(seed, rate, holds, True, reasons, {"ttft_p99_s": 0.5 if holds else 2.0, "requests": 100.0, **values})


def _found(probes: list[Probe], *replicates: Replicate, key: str = RATE) -> CapacityResult:
    return CapacityResult("x", parse("ttft.p99 <= 1"), key, 0.05, replicates, tuple(probes))


def test_where_it_fails_is_said_of_the_seed_that_fails_there() -> None:
    probes = [_probe(0, 4.0, True), _probe(0, 4.2, False), _probe(1, 8.0, True), _probe(1, 8.2, False), _probe(1, 16.0, False)]
    both = _found(probes, Replicate(0, "found", 4.0, 4.2), Replicate(1, "found", 8.0, 8.2))
    assert "It fails first at 4.2 (seed 0)" in both.message and "Just above" not in both.message
    one = _found(probes[2:], Replicate(1, "found", 8.0, 8.2))
    assert "It fails at 8.2: " in one.message and "within 2.5 %" in one.message


def test_clients_are_whole_and_the_resolution_says_so() -> None:
    probes = [_probe(0, 3.0, True), _probe(0, 4.0, False)]
    assert "within 33 %" in _found(probes, Replicate(0, "found", 3.0, 4.0), key="workload.closed_loop.concurrency").message


def test_equal_seeds_are_not_certainty() -> None:
    probes = [_probe(seed, rate, rate < 4.1) for seed in (0, 1) for rate in (4.0, 4.2)]
    found = _found(probes, Replicate(0, "found", 4.0, 4.2), Replicate(1, "found", 4.0, 4.2))
    assert found.interval == (4.0, 4.0) and any("less than the search resolves" in note for note in found.notes)


@pytest.mark.parametrize(("together", "words"), [(1.0, "no two requests meet"), (9.0, "the lightest load that was tried")])
def test_never_says_why_no_lighter_load_was_tried(together: float, words: str) -> None:
    found = _found([_probe(0, 0.5, False, in_system_max=together)], Replicate(0, "never", None, 0.5))
    assert words in found.message and "ttft.p99 <= 1 (found 2)" in found.message


@pytest.mark.parametrize(("together", "words"), [(100.0, "all requests are in the system at once"), (50.0, "may not depend on this load")])
def test_always_says_why_no_heavier_load_was_tried(together: float, words: str) -> None:
    assert words in _found([_probe(0, 64.0, True, in_system_max=together)], Replicate(0, "always", 64.0, None)).message


def test_a_scale_says_what_of_and_what_it_comes_to() -> None:
    key = "workload.trace.rate_scale"
    probes = [_probe(0, 4.0, True, arrivals_per_s=12.5), _probe(0, 4.2, False)]
    assert "Capacity 4 x the trace's own rate, 12.5 requests/s" in _found(probes, Replicate(0, "found", 4.0, 4.2), key=key).message
    assert (unit(RATE), unit("workload.burstgpt_like.rate_scale")) == ("requests/s", "x the workload's own rate")


def _tried(tp: int, low: float | None, high: float | None, **more: Any) -> Tried:
    values = {"arrivals_per_s": 10.0, "requests": 100.0, "in_system_max": 100.0}
    return Tried(Placement((Pool("mixed", 1, tp, 1),)), low, high, False, 3, "ttft.p99 <= 1 (found 2)", None, values, **more)


def _placed(*tried: Tried, key: str = RATE) -> PlacementResult:
    return PlacementResult("x", parse("ttft.p99 <= 1"), key, 0.05, "high", tried)


def test_placements_on_the_same_step_of_the_search_are_ties() -> None:
    result = _placed(_tried(1, 2.0, 2.1), _tried(2, 2.0, 2.1), _tried(4, 1.9, 2.0))
    assert [str(t.placement) for t in result.ties] == ["mixed tp2"] and "does not tell it from mixed tp2" in result.message
    assert result.frame["place"].tolist() == ["best", "tie", "-5 %"]
    alone = _placed(_tried(1, 2.0, 2.1), _tried(2, 1.9, 2.0))
    assert alone.ties == () and "does not tell" not in alone.message


def test_a_placement_that_never_failed_is_not_called_the_limit() -> None:
    message = _placed(_tried(1, 2.0, None)).message
    assert "It never failed" in message and "too short" in message and "fails at" not in message


def test_saturation_is_said_of_placements_too() -> None:
    assert "the queue grows" in _placed(_tried(1, 2.0, 2.1, saturates=True)).message


def test_replicas_in_both_units() -> None:
    result = _placed(_tried(2, 2.0, 2.1), key="workload.trace.rate_scale")
    assert result.replicas(12.0) == 3 and result.replicas(25.0, per_s=True) == 3
    assert "x the trace's own rate a device" in result.message and "10 requests/s" in result.message


@pytest.mark.parametrize(
    ("text", "key", "per_s"),
    [
        ("12", RATE, False),
        ("12/s", RATE, True),
        ("12 requests/s", "workload.trace.rate_scale", True),
        ("1.5x", "workload.trace.rate_scale", False),
    ],
)
def test_loads_have_units(text: str, key: str, per_s: bool) -> None:
    from simserve.cli.study_output import load_of

    assert load_of(text, key).per_s is per_s


@pytest.mark.parametrize(("text", "key"), [("2x", RATE), ("0", RATE), ("-1/s", RATE), ("inf", RATE), ("9 clients", RATE), ("..", RATE)])
def test_loads_without_meaning_are_refused(text: str, key: str) -> None:
    from simserve.cli.study_output import load_of

    with pytest.raises(ConfigError, match="--rate"):
        load_of(text, key)


def test_the_trace_own_failures_in_a_search(tiny: dict[str, Any], tmp_path: Any) -> None:
    """5 of 60 rows failed at their source: 'completed >= 1' holds at no load, and the advised fraction does."""
    rows = "\n".join(f"{second},GPT-4,200,{0 if second % 12 == 5 else 20},220,Conversation log" for second in range(60))
    (tmp_path / "t.csv").write_text(f"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n{rows}\n")
    tiny["workload"] = {"trace": {"format": "burstgpt", "path": str(tmp_path / "t.csv")}}
    never = simserve.capacity(tiny, "completed >= 1", replicates=1, tolerance=0.5, jobs=1)
    assert never.outcome == "never"
    (advice,) = (note for note in never.notes if "strictest" in note)
    assert any("5 of 60 requests failed in the trace itself" in note for note in never.notes)
    again = simserve.capacity(tiny, f"{advice.split(chr(39))[1]} and ttft.p50 <= 0.1", replicates=1, tolerance=0.5, jobs=1)
    assert again.outcome != "never"


def test_a_search_says_of_what_gets_cheaper_with_the_load_that_it_goes_the_wrong_way(tiny: dict[str, Any]) -> None:
    """A token costs the less the more there are: at the lowest load none is cheap, and 'never' is not the whole answer."""
    (note,) = better_with_load(parse("ttft.p99 <= 1 and usd.per_million_output_tokens <= 1 and usd.per_hour <= 9").quantities)
    assert note.startswith("usd.per_million_output_tokens improves as the load grows")
    assert better_with_load(parse("goodput >= 3").quantities) and not better_with_load(
        parse("ttft.p99 <= 1 and attainment >= 0.9").quantities
    )
    assert specify(tiny, "goodput >= 3").notes == tuple(better_with_load(parse("goodput >= 3").quantities))
