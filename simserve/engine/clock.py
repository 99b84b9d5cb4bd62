"""Simulated time: SimPy's environment with events at exact absolute times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Any

import simpy
from simpy.core import StopSimulation
from simpy.events import NORMAL


class Event:
    """What happens at a time: one call. SimPy's own events, which may have many, are in the clock beside these."""

    __slots__ = ("callback",)

    callback: Callable[[Event], Any]


class Agenda:
    """The part of a clock that every step uses: what time it is, and what is to come. Compiled builds call it without the interpreter, as
    they cannot call what derives from SimPy's classes.

    now    simulated seconds
    queue  time, priority, number and event of all that is to come, as a heap: SimPy's own
    """

    __slots__ = ("_numbers", "_passed", "_passed_s", "now", "queue")

    def __init__(self) -> None:
        self.now = 0.0
        self.queue: list[Any] = []
        self._numbers: Iterator[int] = count()
        self._passed_s = -1.0
        self._passed = -1

    def share(self, queue: list[Any], numbers: Iterator[int]) -> None:
        """SimPy's queue, and its numbers of events, are this one's."""
        self.queue, self._numbers = queue, numbers

    def at(self, time_s: float, callback: Callable[[Event], Any], priority: int = NORMAL) -> Event:
        """Calls `callback(event)` at `time_s` (seconds, not before now); of one time, in order of `priority` (see `events.py`). Returns the
        event."""
        event = Event()
        event.callback = callback
        heappush(self.queue, (time_s, priority, next(self._numbers), event))
        return event

    def pass_by(self, priority: int) -> None:
        """Events of this priority have their turn now."""
        now = self.now
        if now != self._passed_s:
            self._passed_s = now
            self._passed = priority
        elif priority > self._passed:
            self._passed = priority

    def has_passed(self, priority: int) -> bool:
        """Whether events of this priority at the present time have had their turn. A lane in the middle of a span has no event for a step
        that ends now; whether that step is over is this question."""
        return self._passed_s == self.now and priority <= self._passed


class Clock(simpy.Environment):
    """A SimPy environment. All of SimPy works in it (processes, resources, timeouts); the engine itself uses `at`.

    SimPy schedules `now + delay`, which is not the same floating-point number as an end time the instance has summed up step by step.
    Stepwise and fast-forwarded runs must agree bit for bit, so the engine schedules absolute times.
    """

    def __init__(self) -> None:
        self.agenda = Agenda()
        super().__init__()
        self.agenda.share(self._queue, self._eid)
        self._withdrawn = 0
        self._reserved = 0

    @property
    def _now(self) -> float:  # SimPy's name for the time; it is kept in one place
        return self.agenda.now

    @_now.setter
    def _now(self, now: float) -> None:
        self.agenda.now = now

    @property
    def now(self) -> float:
        """Simulated seconds."""
        return self.agenda.now

    @property
    def pending(self) -> int:
        """Events to come, those included for which there is a place and not yet a time."""
        return len(self._queue) - self._withdrawn + self._reserved

    @property
    def to_come(self) -> list[tuple[float, int, int, Any]]:
        """Time, priority, number and event of all that is scheduled, as a heap."""
        return self._queue  # type: ignore[return-value]

    def run(self, until: Any = None) -> Any:
        """As SimPy's: until nothing is to come, a time, or an event of SimPy's."""
        if until is not None:
            return super().run(until)
        agenda = self.agenda
        queue = agenda.queue
        try:
            while True:  # as `step`, without a call for each event; CPython 3.11 would not specialise the bytecode of `while queue`
                if not queue:
                    break
                if queue[0][3].__class__ is Event:
                    agenda.now, _, _, event = heappop(queue)
                    callback = event.callback
                    callback(event)
                else:
                    super().step()
        except StopSimulation as stop:
            return stop.args[0]
        return None

    def step(self) -> None:
        """The next event happens."""
        queue: list[Any] = self._queue
        if queue and queue[0][3].__class__ is Event:
            self._now, _, _, event = heappop(queue)
            event.callback(event)
        else:
            super().step()

    def run_before(self, until_s: float) -> None:
        """Lets time pass to `until_s`: everything before it happens, and nothing at it."""
        queue = self._queue
        while queue and queue[0][0] < until_s:
            self.step()
        self._now = until_s

    def withdraw(self, event: Event) -> None:
        """An event that has not happened will not."""
        self._withdrawn += 1
        event.callback = self._pass_over

    def _pass_over(self, event: Event) -> None:
        self._withdrawn -= 1

    def reserve(self) -> int:
        """A place, among the events of one time, for one whose time is not known yet: as if it were scheduled now. See `redeem`."""
        self._reserved += 1
        return next(self._eid)

    def redeem(self, place: int, time_s: float, callback: Callable[[Event], Any], priority: int) -> None:
        """Schedules what a place was reserved for."""
        self.give_back(place)
        event = Event()
        event.callback = callback
        heappush(self._queue, (time_s, priority, place, event))  # type: ignore[misc]

    def give_back(self, place: int) -> None:
        """What a place was reserved for will not happen."""
        self._reserved -= 1

    def pass_by(self, priority: int) -> None:
        """Events of this priority have their turn now."""
        self.agenda.pass_by(priority)

    def has_passed(self, priority: int) -> bool:
        """Whether events of this priority at the present time have had their turn."""
        return self.agenda.has_passed(priority)

    def at(self, time_s: float, callback: Callable[[Event], Any], priority: int = NORMAL) -> Event:
        """Calls `callback(event)` at `time_s`: see `Agenda.at`."""
        return self.agenda.at(time_s, callback, priority)
