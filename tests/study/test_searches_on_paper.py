"""Searches for placements and capacities whose runs are made up: every placement bears a known rate a device, and so does every seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from simserve.config.experiment import Experiment
from simserve.errors import ConfigError
from simserve.progress.study import Step
from simserve.study.capacity import search as capacity_search
from simserve.study.capacity.search import capacity
from simserve.study.placement import search as placement_search
from simserve.study.placement.search import place, specify
from simserve.study.task import Outcome, Task
from tests.study.conftest import TINY

Bears = Callable[[str], float | None]
"""What a placement bears, requests/s a device; None = it cannot be run."""

WHEN = "ttft.p90 <= 1"


def placement_of(experiment: Experiment) -> str:
    return " + ".join(
        f"{group.role} {group.count} x tp{group.parallel.tp} pp{group.parallel.pp}" for group in experiment.groups
    )  # fmt: skip


def devices_of(experiment: Experiment) -> int:
    return sum(group.count * group.parallel.tp * group.parallel.pp for group in experiment.groups)


def rate_of(experiment: Experiment) -> float:
    workload = experiment.spec.workload
    assert workload is not None
    return float(workload.closed_loop.concurrency if workload.closed_loop else workload.arrivals.rate_per_s)  # type: ignore[union-attr]


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`place` on made-up runs: (bears, devices, options) -> the result and the runs that were asked for, (placement, rate a device)."""

    def run(
        bears: Bears, devices: int = 2, saturated: bool = False, source: Any = None, **options: Any
    ) -> tuple[Any, list[tuple[str, float]]]:
        asked: list[tuple[str, float]] = []

        def execute(tasks: list[Task], count: int, jobs: int | None = None) -> Iterable[Outcome]:
            assert count == len(tasks)
            for task in reversed(tasks):
                name, per_device = placement_of(task.experiment), rate_of(task.experiment) / devices_of(task.experiment)
                asked.append((name, per_device))
                most = bears(name)
                if most is None:
                    yield Outcome(task.number, None, "it does not fit")
                    continue
                fails = per_device > most
                values = {
                    "ttft_p90_s": 2.0 if fails and not saturated else 0.5, "saturated": float(fails and saturated), "requests": 100.0,
                    "in_system_max": 50.0, "completed_fraction": 1.0, "arrivals_per_s": rate_of(task.experiment),
                }  # fmt: skip
                yield Outcome(task.number, values, None)

        monkeypatch.setattr(placement_search, "execute", execute)
        experiment = copy.deepcopy(TINY) if source is None else source
        return place(experiment, devices, when=WHEN, kinds=options.pop("kinds", ("mixed",)), jobs=1, **options), asked

    return run


SIZES = {"mixed 1 x tp1 pp1": 3.0, "mixed 1 x tp2 pp1": 5.0, "mixed 1 x tp1 pp2": 2.0}


def test_the_one_that_bears_most_a_device_is_found_within_the_tolerance(placed: Any) -> None:
    result, asked = placed(SIZES.__getitem__)
    best = result.best
    assert str(best.placement) == "mixed tp2" and best.low <= 5.0 < best.high <= 1.05 * best.low
    assert best.values["ttft_p90_s"] == 0.5 and best.values["arrivals_per_s"] == pytest.approx(2 * best.low, rel=1e-4)
    assert best.limit == "ttft.p90 <= 1 (found 2)" and not best.saturates and not best.dropped
    assert asked[:3] == [(name, 4.0) for name in reversed(["mixed 1 x tp1 pp1", "mixed 1 x tp1 pp2", "mixed 1 x tp2 pp1"])], (
        "all begin where the experiment stands: 4 requests/s on its one device"
    )
    assert sum(each.probes for each in result.tried) == len(asked)
    others = [each for each in result.tried if each is not best]
    assert all(each.dropped and each.high <= best.low for each in others), "one that fails where another holds cannot win"
    assert min(each.probes for each in others) < best.probes


def test_one_that_fails_below_what_another_holds_is_dropped_whatever_rates_they_were_asked(placed: Any) -> None:
    """Whole clients part the searches: of 40 a device one device holds 40 and fails with 80, 57 and 48, two devices hold 113 between them,
    56.5 each. Then one device is not asked again."""
    workload = {key: value for key, value in TINY["workload"].items() if key != "arrivals"} | {"closed_loop": {"concurrency": 40}}
    bears = {"mixed 1 x tp1 pp1": 41.0, "mixed 1 x tp2 pp1": 60.0, "mixed 1 x tp1 pp2": 1.0}
    result, asked = placed(bears.__getitem__, source={**TINY, "workload": workload})
    (one,) = (each for each in result.tried if str(each.placement) == "mixed tp1")
    assert [rate for name, rate in asked if name == "mixed 1 x tp1 pp1"] == [40.0, 80.0, 57.0, 48.0]
    assert one.dropped and (one.low, one.high) == (40.0, 48.0) and str(result.best.placement) == "mixed tp2" and result.best.low > 56


def test_both_kinds_are_searched_to_their_own_best(placed: Any) -> None:
    """A mixed one is dropped for a better mixed one, not for a better pair."""

    def bears(name: str) -> float:
        return 9.0 if name.startswith("prefill") else {"mixed 1 x tp1 pp1": 3.0}.get(name, 1.0)

    network = {"bytes_per_s": 1e11, "latency_s": 0.0}
    source = {**copy.deepcopy(TINY), "cluster": {**copy.deepcopy(TINY["cluster"]), "network": network}}
    result, _ = placed(bears, source=source, kinds=("disaggregated", "mixed"))
    assert result.best_of("disaggregated").low <= 9.0 < 1.05 * result.best_of("disaggregated").low
    mixed = result.best_of("mixed")
    assert str(mixed.placement) == "mixed tp1" and mixed.low <= 3.0 < mixed.high <= 1.05 * mixed.low and not mixed.dropped


def test_where_only_the_queue_grows_it_saturates(placed: Any) -> None:
    result, _ = placed(SIZES.__getitem__, saturated=True)
    assert result.best.saturates and result.best.limit == "the queue grew through the run"


def test_what_cannot_be_run_is_left_out_and_all_of_it_is_an_error(placed: Any) -> None:
    result, _ = placed(lambda name: None if "tp2" in name else SIZES[name])
    assert str(result.best.placement) == "mixed tp1"
    assert [each.error for each in result.tried if each.error] == ["it does not fit"]
    with pytest.raises(ConfigError, match=r"no placement can be run; the first: mixed tp1: it does not fit"):
        placed(lambda name: None)


def test_nowhere_is_an_answer(placed: Any) -> None:
    result, _ = placed(lambda name: 1e-12, devices=1)
    assert result.best is None and all(each.low is None for each in result.tried)
    assert result.message.startswith("No placement holds")


def test_clients_of_a_closed_loop_are_whole_numbers_of_the_placement(placed: Any) -> None:
    source = copy.deepcopy(TINY)
    del source["workload"]["arrivals"]
    source["workload"]["closed_loop"] = {"concurrency": 6}
    result, asked = placed({"mixed 1 x tp1 pp1": 7.4, "mixed 1 x tp2 pp1": 7.4, "mixed 1 x tp1 pp2": 1.0}.__getitem__, source=source)
    assert [(str(each.placement), each.low, each.high) for each in result.tried if not each.dropped] == [
        ("mixed tp1", 7.0, 8.0), ("mixed tp2", 7.0, 7.5),
    ]  # fmt: skip
    assert ("mixed 1 x tp2 pp1", 6.0) in asked, "12 clients of two devices are 6 of each"


def test_how_far_it_is_is_told_after_each_run(placed: Any) -> None:
    steps: list[Step] = []
    result, asked = placed(lambda name: None if "pp2" in name else SIZES[name], progress=steps.append)
    assert len(steps) >= len(asked) and steps[-1].done == steps[-1].total == 3 == len(result.tried)
    assert [step.failed for step in steps][-1] == 1 and all(a.done <= b.done for a, b in pairwise(steps))


def test_what_was_run_before_is_taken_from_the_folder(placed: Any, tmp_path: Path) -> None:
    first, asked = placed(SIZES.__getitem__, out=tmp_path / "search")
    again, more = placed(SIZES.__getitem__, out=tmp_path / "search", resume=True)
    assert asked and not more and again.as_dict() == first.as_dict()
    assert (tmp_path / "search" / "best.yaml").is_file()


def test_what_a_search_is_asked_to_do() -> None:
    spec = specify(TINY, 4, when=WHEN)
    assert (spec.start_per_device, spec.whole, spec.rate_key, spec.tolerance) == (4.0, False, "workload.arrivals.rate_per_s", 0.05)
    assert (spec.node_devices, spec.affinity) == (8, "high")
    twice = {**copy.deepcopy(TINY), "cluster": {"instances": [{**TINY["cluster"]["instances"][0], "count": 2, "parallel": {"tp": 4}}]}}
    assert specify(twice, 4, when=WHEN).start_per_device == 0.5, "4 requests/s on the 8 devices it is written for"
    few = specify(TINY, 6, when=WHEN, most_instances=1)
    assert max(pool.count for each in few.placements for pool in each.pools) == 1
    assert specify(TINY, 2).predicate.text == "attainment >= 0.99"
    for tolerance in (0.0, 1.0, -0.5):
        with pytest.raises(ConfigError, match="tolerance"):
            specify(TINY, 2, when=WHEN, tolerance=tolerance)
    with pytest.raises(ConfigError, match="states no SLO to go by"):
        specify({**copy.deepcopy(TINY), "slo": {}}, 2)


# -- capacities -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`capacity` on made-up runs: (seed -> what it bears, options) -> the result and (seed, rate) of the runs."""

    def run(bears: dict[int, float], same: bool = False, source: Any = None, **options: Any) -> tuple[Any, list[tuple[int, float]]]:
        asked: list[tuple[int, float]] = []

        def execute(tasks: list[Task], count: int, jobs: int | None = None) -> Iterable[Outcome]:
            assert count == len(tasks)
            for task in reversed(tasks):
                seed, rate = task.experiment.spec.seed, rate_of(task.experiment)
                asked.append((seed, rate))
                fails = rate > bears[seed]
                mark = 0.0 if same else float(seed)
                values = {"ttft_p90_s": 2.0 if fails else 0.5, "saturated": 0.0, "requests": 100.0, "in_system_max": 50.0, "mark": mark}
                yield Outcome(task.number, values, None) if bears[seed] > 0 else Outcome(task.number, None, "it failed")

        monkeypatch.setattr(capacity_search, "execute", execute)
        return capacity(copy.deepcopy(TINY) if source is None else source, WHEN, **options), asked

    return run


def test_each_seed_has_a_search_of_its_own(found: Any) -> None:
    result, asked = found({1: 10.0, 2: 3.0, 3: 5.0}, tolerance=0.1)
    assert [replicate.seed for replicate in result.replicates] == [1, 2, 3], "three seeds by default, from the experiment's own on"
    for replicate, bears in zip(result.replicates, (10.0, 3.0, 5.0), strict=True):
        assert replicate.low <= bears < replicate.high <= 1.1 * replicate.low
    assert {rate for _, rate in asked[:3]} == {4.0} and len(asked) == len(result.probes)
    assert result.rate == pytest.approx(sum(replicate.low for replicate in result.replicates) / 3)


def test_seeds_that_change_nothing_need_one_search(found: Any) -> None:
    result, asked = found(dict.fromkeys((1, 2, 3), 10.0), same=True)
    assert [replicate.seed for replicate in result.replicates] == [1] and result.interval is None
    assert {seed for seed, _ in asked[3:]} == {1} and {probe.seed for probe in result.probes} == {1}
    assert any("the seed changes nothing in this workload" in note for note in result.notes)
    alone, _ = found({1: 10.0}, same=True, replicates=1)
    assert not any("the seed changes nothing" in note for note in alone.notes)


def test_where_instances_fail_at_random_equal_first_runs_are_chance(found: Any) -> None:
    source = copy.deepcopy(TINY)
    source["cluster"]["failures"] = {"mtbf_s": 1e6}
    result, _ = found(dict.fromkeys((1, 2, 3), 10.0), same=True, source=source)
    assert len(result.replicates) == 3


def test_a_probe_that_cannot_be_run_ends_the_search(found: Any) -> None:
    with pytest.raises(ConfigError, match=r"workload\.arrivals\.rate_per_s = 4, seed 2: it failed"):
        found({1: 10.0, 2: 0.0, 3: 5.0})


def test_clients_are_asked_for_in_whole_numbers(found: Any) -> None:
    source = copy.deepcopy(TINY)
    del source["workload"]["arrivals"]
    source["workload"]["closed_loop"] = {"concurrency": 3}
    result, asked = found({1: 10.5}, source=source, replicates=1)
    assert (result.replicates[0].low, result.replicates[0].high) == (10.0, 11.0)
    assert asked[:2] == [(1, 3.0), (1, 6.0)] and all(rate == int(rate) for _, rate in asked)


def test_a_cap_of_the_clients_and_variants_are_remarked(found: Any) -> None:
    source = {**copy.deepcopy(TINY), "variants": {"small": {"seed": 1}}}
    source["workload"]["max_concurrency"] = 2500
    notes = found({1: 10.0}, source=source, replicates=1)[0].notes
    assert any("max_concurrency keeps all but 2,500 requests at the client" in note for note in notes)
    assert any("it has the variants small (--variant NAME)" in note for note in notes)
    chosen = found({1: 10.0}, source=source, replicates=1, variant="small")[0]
    assert chosen.name == "tiny.small" and not any("--variant" in note for note in chosen.notes)


# -- what improves with the load ----------------------------------------------------------------------------------------------------------

PRICED = "ttft.p90 <= 1 and usd.per_million_output_tokens <= {}"


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """`capacity` on runs that bear 10 requests/s, a token costing 8 / rate: 0.8 at 10, 2 where the search starts."""

    def run(when: str) -> Any:
        def execute(tasks: list[Task], count: int, jobs: int | None = None) -> Iterable[Outcome]:
            for task in tasks:
                rate = rate_of(task.experiment)
                values = {
                    "ttft_p90_s": 2.0 if rate > 10 else 0.5, "usd_per_million_output_tokens": 8 / rate, "saturated": 0.0,
                    "requests": 100.0, "in_system_max": 50.0,
                }  # fmt: skip
                yield Outcome(task.number, values, None)

        monkeypatch.setattr(capacity_search, "execute", execute)
        return capacity({**copy.deepcopy(TINY), "prices": {"usd_per_hour": {TINY["hardware"]: 1.0}}}, when, replicates=1, tolerance=0.05)

    return run


def test_a_token_that_costs_too_much_at_first_sends_the_search_up(priced: Any) -> None:
    found = priced(PRICED.format(1.0))
    assert found.outcome == "found" and 9.5 < found.rate <= 10 and found.limit == "ttft.p90 <= 1 (found 2)"
    assert not found.probes[0].holds or found.probes[0].rate > 8, "lighter loads do not hold, and are not taken for the end of the range"
    assert not any("improves as the load grows" in note for note in found.notes)


def test_a_token_that_costs_too_much_at_the_highest_load_costs_too_much_at_any(priced: Any) -> None:
    found = priced(PRICED.format(0.5))
    assert found.outcome == "never" and found.rate is None
    assert found.message.startswith(f"Never holds: '{PRICED.format(0.5)}' fails at ")
    assert "the highest load that everything else allows, where a token costs least: usd.per_million_output_tokens <= 0.5 (found 0.8" in (
        found.message
    )


def test_where_they_are_not_limits_of_their_own_the_search_says_so(priced: Any) -> None:
    found = priced("ttft.p90 <= 1 and not usd.per_million_output_tokens > 3")
    assert any("improves as the load grows" in note for note in found.notes)
