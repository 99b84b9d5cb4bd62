"""What happens by the clock alone: ticks of signals and controllers, random failures, starts of instances. None of it serves a request, so
a run in which nothing else is to happen is deadlocked: it must end with an error that says why, not go on for ever."""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import Any

from simserve.engine.clock import Clock, Event
from simserve.engine.events import TIMER
from simserve.errors import ConfigError

PATIENCE = 1000
"""Ticks in a row, or starts and failures in a row, that change nothing while nothing else is to come; then no more of them will help."""


class Timers:
    """The events of a run that come by the clock alone. `progress()` differs when anything else has happened meanwhile."""

    def __init__(self, clock: Clock, progress: Callable[[], Any]) -> None:
        self._clock = clock
        self._progress = progress
        self._seen: Any = None
        self._in_vain = 0
        self._pending = {"tick": 0, "failure": 0, "start": 0}

    def at(self, kind: str, at_s: float, action: Callable[[Event], None]) -> Event:
        """Calls `action(event)` at `at_s`. kind: "tick", "failure" or "start". Returns the event."""
        self._pending[kind] += 1

        def ring(event: Event) -> None:
            self._pending[kind] -= 1
            if kind != "tick":
                self._look()
            action(event)

        return self._clock.at(at_s, ring, TIMER)

    def nothing_to_come(self) -> bool:
        """Whether all that is to come are ticks and random failures."""
        return self._clock.pending <= self._pending["tick"] + self._pending["failure"]

    @property
    def stuck(self) -> bool:
        """Instances have started and died many times, and nothing else has happened or is to come."""
        return self._in_vain >= PATIENCE

    def _look(self) -> None:
        progress = self._progress()
        coming = self._clock.pending > sum(self._pending.values())
        self._in_vain = 0 if coming or progress != self._seen else self._in_vain + 1
        self._seen = progress


class Ticker:
    """Calls `action(now)` at whole multiples of `interval_s`, as long as `goes_on()`; `wake` starts it again."""

    def __init__(
        self, clock: Clock, interval_s: float, action: Callable[[float], None], goes_on: Callable[[], bool], timers: Timers
    ) -> None:
        if not interval_s > 0:
            raise ConfigError(f"a timer needs an interval above 0 s, found {interval_s}")
        self._clock = clock
        self._interval_s = interval_s
        self._action = action
        self._goes_on = goes_on
        self._timers = timers
        self._idle = 0
        self.asleep = True

    def wake(self) -> None:
        """There is something to look at again."""
        if self.asleep:
            self.asleep = False
            self._turn = floor(self._clock.now / self._interval_s)
            self._next()

    def _next(self) -> None:
        self._turn += 1
        while self._turn * self._interval_s <= self._clock.now:
            self._turn += 1
        self._timers.at("tick", self._turn * self._interval_s, self._tick)

    def _tick(self, event: Event) -> None:
        self._idle = self._idle + 1 if self._timers.nothing_to_come() else 0
        if self._goes_on() and self._idle < PATIENCE and not self._timers.stuck:
            self._action(self._clock.now)
            self._next()
        else:
            self.asleep = True
