"""SimPy's processes and the engine's events share one clock."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from simserve.engine.clock import Clock


def _clock(seen: list[tuple[str, float]]) -> Clock:
    """Engine's events at 1, 2 and 3 s, a process that notes 1.5 and 3 s."""
    clock = Clock()

    def sleeper() -> Generator[Any, Any, str]:
        for seconds in (1.5, 1.5):
            yield clock.timeout(seconds)
            seen.append(("process", clock.now))
        return "done"

    for at_s in (3.0, 1.0, 2.0):
        clock.at(at_s, lambda event: seen.append(("engine", clock.now)))
    clock.process(sleeper())
    return clock


ALL = [("engine", 1.0), ("process", 1.5), ("engine", 2.0), ("engine", 3.0), ("process", 3.0)]


def test_they_happen_in_order_of_time() -> None:
    seen: list[tuple[str, float]] = []
    assert _clock(seen).run() is None
    assert seen == ALL


@pytest.mark.parametrize("until_s", [0.5, 1.7, 2.5, 9.0])
def test_a_run_may_be_cut_and_go_on(until_s: float) -> None:
    seen: list[tuple[str, float]] = []
    clock = _clock(seen)
    clock.run(until=until_s)
    assert clock.now == until_s
    assert seen == [entry for entry in ALL if entry[1] < until_s]
    clock.run()
    assert seen == ALL


def test_a_run_goes_on_until_a_process_is_over() -> None:
    clock = Clock()

    def sleeper() -> Generator[Any, Any, str]:
        yield clock.timeout(1.5)
        return "done"

    clock.at(2.0, lambda event: pytest.fail("after the end of the process"))
    assert clock.run(until=clock.process(sleeper())) == "done"


def test_a_process_that_fails_ends_the_run() -> None:
    clock = Clock()

    def faulty() -> Generator[Any, Any, None]:
        yield clock.timeout(1.0)
        raise ZeroDivisionError

    clock.process(faulty())
    clock.at(2.0, lambda event: pytest.fail("after the fault"))
    with pytest.raises(ZeroDivisionError):
        clock.run()


def test_an_event_may_be_withdrawn() -> None:
    clock, seen = Clock(), []
    event = clock.at(1.0, lambda event: seen.append("withdrawn"))
    clock.at(2.0, seen.append)
    assert clock.pending == 2
    clock.withdraw(event)
    assert clock.pending == 1
    clock.run()
    assert len(seen) == 1
    assert clock.pending == 0
