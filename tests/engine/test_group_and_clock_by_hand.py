"""The decoding group against counting every member by itself, and the clock and its timers by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine.clock import Clock
from simserve.engine.decode_group import NO_END, DecodeGroup
from simserve.engine.events import TIMER
from simserve.engine.request import LiveRequest, State
from simserve.engine.timers import PATIENCE, Ticker, Timers
from simserve.errors import ConfigError

BLOCK = 4


class Member:
    """A request of the group by itself: tokens cached and emitted, blocks held, emitted tokens at which it ends."""

    def __init__(self, row: int, computed: int, generated: int, reserved: int, left: int, grows: bool) -> None:
        self.row, self.computed, self.generated, self.left, self.grows = row, computed, generated, left, grows
        self.held = -(-computed // BLOCK) + reserved
        self.request = LiveRequest(row, 0.0, 1, 0, -1, -1)
        self.request.computed_tokens, self.request.generated_tokens, self.request.held_blocks = computed, generated, self.held

    def need(self, ahead: int = 0) -> int:
        """Blocks that it takes before the step that is so many steps ahead."""
        if not self.grows:
            return 0
        return int((self.computed + ahead) % BLOCK == 0 and (self.computed + ahead) // BLOCK >= self.held)

    def step(self) -> None:
        self.held += self.need()
        self.computed, self.generated, self.left = self.computed + 1, self.generated + 1, self.left - 1


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(1, 40), st.integers(0, 3), st.integers(1, 30), st.booleans()),
        st.tuples(st.just("steps"), st.integers(1, 9)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS, free=st.integers(0, 12))
def test_the_group_says_what_counting_its_members_says(operations: list[tuple[Any, ...]], free: int) -> None:
    group = DecodeGroup(BLOCK)
    members: dict[int, Member] = {}

    def look() -> None:
        assert len(group) == len(members)
        assert group.context_tokens() == sum(member.computed + 1 for member in members.values())
        assert group.longest_tokens() == max((member.computed + 1 for member in members.values()), default=0)
        assert group.blocks_needed() == sum(member.need() for member in members.values())
        for member in members.values():
            assert group.computed_tokens(member.request) == member.computed
            assert group.generated_tokens(member.request) == member.generated
        ends = min((member.left for member in members.values()), default=NO_END)
        change = group.steps_to_next_change()
        assert change <= ends and (change == ends or not members or change >= 1)
        ahead = min(change, 40) if members else 0
        grown = [sum(member.need(k) for member in members.values()) for k in range(1, ahead)]
        for steps in range(ahead):
            assert group.growth_over(steps) == sum(grown[:steps])
        if ahead:
            fits = 1 + max(k for k in range(len(grown) + 1) if sum(grown[:k]) <= free)
            assert group.steps_within(free, ahead) == fits

    for row, (what, *how) in enumerate(operations):
        if what == "join":
            computed, reserved, left, grows = how
            member = members[row] = Member(row, computed, 1, reserved if grows else reserved + 10, left, grows)
            group.join(member.request, member.generated + left, grows)
            assert member.request.state is State.DECODING
        elif what == "leave" and members:
            member = members.pop(sorted(members)[how[0] % len(members)])
            group.leave(member.request)
            assert (member.request.computed_tokens, member.request.generated_tokens) == (member.computed, member.generated)
            assert member.request.held_blocks == member.held
        elif what == "steps":
            for _ in range(how[0]):
                look()
                for member in members.values():
                    member.step()
                group.tick += 1
                ended = sorted(row for row, member in members.items() if not member.left)
                assert [request.row for request in group.pop_ended()] == ended
                for each in ended:
                    del members[each]
        look()


def test_members_that_end_in_one_span_come_out_by_tick_then_row() -> None:
    group = DecodeGroup(BLOCK)
    for row, left in ((5, 2), (1, 3), (3, 2), (2, 1)):
        group.join(Member(row, 3, 1, 0, left, True).request, 1 + left, True)
    group.tick += 3
    assert [request.row for request in group.pop_ended()] == [2, 3, 5, 1] and not len(group) and not any(group.growth)


# -- the clock --------------------------------------------------------------------------------------------------------------------------


def test_events_come_in_order_of_time_then_priority_then_as_they_were_scheduled() -> None:
    clock, came = Clock(), list[str]()
    for name, time_s, priority in (("c", 2.0, 1), ("b", 1.0, 5), ("d", 2.0, 1), ("a", 1.0, 0), ("e", 2.0, 3)):
        clock.at(time_s, lambda event, name=name: came.append(name), priority)  # type: ignore[misc]
    assert clock.pending == 5
    clock.run()
    assert came == ["a", "b", "c", "d", "e"] and clock.now == 2.0 and clock.pending == 0


def test_time_passes_up_to_an_instant_and_not_beyond() -> None:
    clock, came = Clock(), list[float]()
    for time_s in (1.0, 2.0, 3.0):
        clock.at(time_s, lambda event: came.append(clock.now))
    clock.run_before(2.0)
    assert came == [1.0] and clock.now == 2.0 and clock.pending == 2
    clock.run_before(2.0)
    assert came == [1.0]
    clock.run_before(2.5)
    assert came == [1.0, 2.0] and clock.now == 2.5


def test_what_is_withdrawn_does_not_happen_and_is_not_to_come() -> None:
    clock, came = Clock(), list[str]()
    first = clock.at(1.0, lambda event: came.append("first"))
    clock.at(2.0, lambda event: came.append("second"))
    clock.withdraw(first)
    assert clock.pending == 1
    clock.run_before(1.5)
    assert clock.pending == 1 and came == []
    clock.run()
    assert came == ["second"] and clock.pending == 0


def test_a_reserved_place_is_kept_among_the_events_of_its_time() -> None:
    clock, came = Clock(), list[str]()
    clock.at(1.0, lambda event: came.append("before"), 3)
    place = clock.reserve()
    clock.at(1.0, lambda event: came.append("after"), 3)
    assert clock.pending == 3, "it is to come, at a time that is not known"
    clock.redeem(place, 1.0, lambda event: came.append("reserved"), 3)
    assert clock.pending == 3
    clock.run()
    assert came == ["before", "reserved", "after"]
    clock.give_back(clock.reserve())
    assert clock.pending == 0


def test_which_events_of_this_instant_have_had_their_turn() -> None:
    clock = Clock()
    assert not clock.has_passed(0)
    seen: list[list[bool]] = []

    def look(event: Any) -> None:
        seen.append([clock.has_passed(priority) for priority in (2, 3, 4)])

    def passes(priority: int) -> Any:
        return lambda event: clock.pass_by(priority)

    clock.at(1.0, passes(3), 3)
    clock.at(1.0, look, 3)
    clock.at(1.0, passes(2), 4)  # what comes later does not take back that 3 has passed
    clock.at(1.0, look, 5)
    clock.at(2.0, look, 0)
    clock.run()
    assert seen == [[True, True, False], [True, True, False], [False, False, False]]


# -- timers -----------------------------------------------------------------------------------------------------------------------------


def a_ticker(interval_s: float, goes_on: Any = lambda: True, progress: Any = lambda: 0) -> tuple[Clock, Ticker, list[float]]:
    clock, ticks = Clock(), list[float]()
    return clock, Ticker(clock, interval_s, ticks.append, goes_on, Timers(clock, progress)), ticks


@pytest.mark.parametrize("interval_s", [0.1, 0.05, 1 / 3, 7.0])
def test_ticks_fall_on_whole_multiples_of_the_interval(interval_s: float) -> None:
    clock, ticker, ticks = a_ticker(interval_s)
    assert ticker.asleep
    ticker.wake()
    assert not ticker.asleep
    clock.run_before(20.5 * interval_s)
    assert ticks == [turn * interval_s for turn in range(1, 21)], "not their rounded sums"


@pytest.mark.parametrize(("wakes_s", "first_s"), [(0.0, 0.5), (0.2, 0.5), (0.5, 1.0), (1.2, 1.5), (7.5, 8.0)])
def test_who_is_woken_at_a_tick_looks_at_the_next(wakes_s: float, first_s: float) -> None:
    clock, ticker, ticks = a_ticker(0.5)
    clock.run_before(wakes_s)
    ticker.wake()
    ticker.wake()
    clock.run_before(first_s + 0.25)
    assert ticks == [first_s]


def test_a_ticker_sleeps_when_there_is_nothing_to_look_at_and_can_be_woken() -> None:
    there = [True]
    clock, ticker, ticks = a_ticker(1.0, lambda: there[0])
    ticker.wake()
    clock.run_before(2.5)
    there[0] = False
    clock.run()
    assert ticks == [1.0, 2.0] and ticker.asleep and clock.now == 3.0
    there[0] = True
    ticker.wake()
    clock.run_before(5.5)
    assert ticks == [1.0, 2.0, 4.0, 5.0]


def test_where_nothing_else_is_to_come_a_ticker_gives_up_after_a_thousand_ticks() -> None:
    clock, ticker, ticks = a_ticker(1.0)
    ticker.wake()
    clock.run()
    assert len(ticks) == PATIENCE - 1 == 999 and ticker.asleep
    clock, ticker, ticks = a_ticker(1.0)
    clock.at(600.5, lambda event: None)  # something else happens meanwhile, and the count begins again
    ticker.wake()
    clock.run()
    assert len(ticks) == 600 + PATIENCE - 1


def test_starts_that_change_nothing_are_counted_until_something_does() -> None:
    clock, state = Clock(), [0]
    timers = Timers(clock, lambda: state[0])

    def starts(times: int) -> None:
        for _ in range(times):
            timers.at("start", clock.now + 1.0, lambda event: None)
            clock.run()

    starts(PATIENCE)
    assert not timers.stuck, "the first of them was new"
    starts(1)
    assert timers.stuck
    state[0] = 1
    starts(1)
    assert not timers.stuck
    starts(PATIENCE - 1)
    clock.at(clock.now + 5.0, lambda event: None)  # something else is to come
    timers.at("failure", clock.now + 1.0, lambda event: None)
    clock.run()
    assert not timers.stuck


def test_only_ticks_and_failures_are_no_reason_to_go_on() -> None:
    clock = Clock()
    timers = Timers(clock, lambda: 0)
    assert timers.nothing_to_come()
    timers.at("tick", 1.0, lambda event: None)
    timers.at("failure", 1.0, lambda event: None)
    assert timers.nothing_to_come()
    timers.at("start", 2.0, lambda event: None)
    assert not timers.nothing_to_come(), "an instance will serve"
    clock.run_before(1.5)
    assert not timers.nothing_to_come()
    clock.run()
    assert timers.nothing_to_come()


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan")])
def test_a_timer_needs_an_interval(interval_s: float) -> None:
    with pytest.raises(ConfigError, match="interval above 0 s"):
        a_ticker(interval_s)


def test_timers_come_before_what_they_look_at() -> None:
    """Events of one time: the clock's own first, then the ends of steps."""
    clock, came = Clock(), list[str]()
    clock.at(1.0, lambda event: came.append("step"))
    Timers(clock, lambda: 0).at("tick", 1.0, lambda event: came.append("tick"))
    clock.run()
    assert came == ["tick", "step"] and TIMER == 0
