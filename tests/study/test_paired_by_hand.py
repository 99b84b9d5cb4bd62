"""Paired comparisons by hand: which runs are made with which seeds, and what is said of their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from simserve.errors import ConfigError
from simserve.study import paired as module
from simserve.study.base import base
from simserve.study.paired import PairedComparison, compare, paired
from simserve.study.predicate import parse_quantity
from simserve.study.task import Outcome, Task

Runs = Callable[[int, int], dict[str, float | None] | None]
"""(0 first or 1 second, seed) -> the figures of that run."""


@pytest.fixture
def compared(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[PairedComparison, list[Task]]]:
    """A comparison whose runs are given by a function; also the runs that were asked for."""

    def run(figures: Runs, changes: dict[str, Any] | None = None, **options: Any) -> tuple[PairedComparison, list[Task]]:
        asked: list[Task] = []

        def execute(tasks: list[Task], count: int, jobs: int | None = None) -> Iterable[Outcome]:
            asked.extend(tasks)
            assert count == len(tasks)
            for task in reversed(tasks):  # in any order
                side = int(task.experiment.name == "second")
                values = figures(side, task.experiment.spec.seed)
                yield Outcome(task.number, values, None if values is not None else "it failed")

        monkeypatch.setattr(module, "execute", execute)
        one = {**tiny, "name": "first", "seed": 3}
        other = {**tiny, "name": "second", "seed": 99, **(changes or {})}
        return paired(one, other, ["ttft.p99", "goodput"], **options), asked

    return run


def same(side: int, seed: int) -> dict[str, float | None]:
    return {"ttft_p99_s": 1.0 + side, "goodput_per_s": 2.0}


def test_both_run_with_the_seeds_that_follow_the_firsts_own(compared: Any) -> None:
    found, asked = compared(lambda side, seed: {"ttft_p99_s": float(seed * (1 + side)), "goodput_per_s": 1.0})
    assert found.seeds == (3, 4, 5, 6, 7), "five seeds by default"
    assert [(task.experiment.name, task.experiment.spec.seed) for task in asked] == [
        (name, seed) for name in ("first", "second") for seed in (3, 4, 5, 6, 7)
    ]
    assert [task.number for task in asked] == list(range(10))
    row = found.rows[0]
    assert (row.first, row.second, row.difference) == (5.0, 10.0, 5.0), "each seed is compared with itself: 3 to 7 s more"
    assert row.low is not None and row.low > 0 and row.verdict == "higher" and row.better == "first"
    assert found.rows[1].verdict == "equal"


def test_seeds_may_be_listed_or_counted(compared: Any) -> None:
    assert compared(same, replicates=2)[0].seeds == (3, 4)
    assert compared(same, seeds=[8, 5])[0].seeds == (8, 5)
    with pytest.raises(ConfigError, match="not both"):
        compared(same, seeds=[8], replicates=2)


def test_a_run_that_fails_is_named_with_its_seed(compared: Any) -> None:
    with pytest.raises(ConfigError, match="second, seed 4: it failed"):
        compared(lambda side, seed: None if (side, seed) == (1, 4) else same(side, seed))


def test_names(compared: Any, tiny: dict[str, Any]) -> None:
    assert compared(same)[0].names == ("first", "second")
    assert compared(same, names=("old", "new"))[0].names == ("old", "new")
    assert compared(same, {"name": "first"}, replicates=1)[0].names == ("first (first)", "first (second)")


def test_seeds_that_change_nothing_are_noted(compared: Any) -> None:
    said = "the seed changes nothing in either run"
    assert any(note.startswith(said) for note in compared(same)[0].notes)
    assert not compared(same, replicates=1)[0].notes, "of one seed nothing can be said"
    for vary in (0, 1):
        one_varies = compared(
            lambda side, seed, vary=vary: {**same(side, seed), **({"goodput_per_s": float(seed)} if side == vary else {})}
        )
        assert not any(note.startswith(said) for note in one_varies[0].notes)


def test_workloads_that_differ_are_noted(compared: Any, tiny: dict[str, Any]) -> None:
    changes = {"workload": {**tiny["workload"], "count": 17}}
    found = compared(lambda side, seed: {"ttft_p99_s": float(seed), "goodput_per_s": 1.0}, changes)[0]
    assert [note.split(",")[0] for note in found.notes] == ["the workloads differ"]


def test_requests_that_did_not_complete_are_counted_in_the_worst_run(compared: Any) -> None:
    """Of 100 requests 1 - f are lost: said from half a request on."""

    def figures(side: int, seed: int) -> dict[str, float | None]:
        completed = {3: 1.0, 4: 0.8 if side else 1.0, 5: 0.9}[seed]
        return {"ttft_p99_s": float(seed), "goodput_per_s": 1.0, "requests": 100.0, "completed_fraction": completed}

    assert compared(figures, replicates=3)[0].notes == (
        "first: up to 10 requests of a run did not complete; its latencies are of the others",
        "second: up to 20 requests of a run did not complete; its latencies are of the others",
    )
    hardly = {"requests": 1000.0, "completed_fraction": 0.9996}
    assert not compared(lambda side, seed: {"ttft_p99_s": float(seed), "goodput_per_s": 1.0, **hardly})[0].notes
    assert not compared(lambda side, seed: {"ttft_p99_s": float(seed), "goodput_per_s": 1.0, "requests": None})[0].notes


TTFT, GOODPUT = parse_quantity("ttft.p99"), parse_quantity("goodput")


@pytest.mark.parametrize(
    ("quantity", "first", "second", "cells"),
    [
        (TTFT, [1.0, 1.0], [1.2, 1.2], ("ttft.p99", "1,000 ms", "1,200 ms", "+200.0 ms", "+20.0 %", "higher, first is better")),
        (GOODPUT, [2.0, 2.0], [1.0, 1.0], ("goodput", "2", "1", "-1", "-50.0 %", "lower, first is better")),
        (GOODPUT, [0.0], [1.0], ("goodput", "0", "1", "+1", "–", "one seed")),
        (TTFT, [None], [1.0], ("ttft.p99", "–", "1,000 ms", "–", "–", "not defined")),
    ],
)
def test_what_a_table_shows(quantity: Any, first: list[float | None], second: list[float | None], cells: tuple[str, ...]) -> None:
    assert PairedComparison(("a", "b"), (0, 1), 0.95, (compare(quantity, first, second),)).cells() == [cells]


def test_an_interval_is_shown_where_it_has_a_width() -> None:
    cells = PairedComparison(("a", "b"), (0, 1), 0.95, (compare(GOODPUT, [1.0, 2.0, 3.0], [3.0, 5.0, 7.0]),)).cells()[0]
    assert cells[3] == "+3 (0.516 to 5.48)" and cells[5] == "higher, second is better"


def test_the_file_and_the_frame_hold_what_was_found() -> None:
    found = PairedComparison(("a", "b"), (4, 5), 0.9, (compare(TTFT, [1.0, 2.0], [1.5, 2.5], 0.9),), ("a note",))
    written = found.as_dict()
    assert {key: written[key] for key in ("first", "second", "seeds", "confidence", "notes")} == {
        "first": "a",
        "second": "b",
        "seeds": [4, 5],
        "confidence": 0.9,
        "notes": ["a note"],
    }
    row = written["rows"][0]
    assert (row["figure"], row["column"], row["difference"], row["verdict"], row["better"]) == (
        "ttft.p99",
        "ttft_p99_s",
        0.5,
        "higher",
        "first",
    )
    assert "quantity" not in row
    assert found.frame.loc[0, ["figure", "first", "second", "better"]].tolist() == ["ttft_p99_s", 1.5, 2.0, "first"]
    assert repr(found) == "PairedComparison('a', 'b': 1 of 1 figures differ, 2 seeds)"


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.1, 1.5])
def test_confidence_is_a_fraction(confidence: float, tiny: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="confidence"):
        module.find(base(tiny), base(tiny), confidence=confidence)
