"""Simulated time: SimPy's environment with events at exact absolute times."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

import simpy
from simpy.events import NORMAL, URGENT, Event

ARRIVAL = URGENT
"""Priority of events that bring work: at equal times they come before the ends of steps, so a plan made at t sees what arrived at t."""

STEP = NORMAL
"""Priority of step ends and of waking an idle instance."""


class Clock(simpy.Environment):
    """A SimPy environment. All of SimPy works in it (processes, resources, timeouts); the engine itself uses `at`.

    SimPy schedules `now + delay`, which is not the same floating-point number as an end time the instance has summed up step by step.
    Stepwise and fast-forwarded runs must agree bit for bit, so the engine schedules absolute times.
    """

    def at(self, time_s: float, callback: Callable[[Event], Any], priority: int = STEP) -> Event:
        """Calls `callback(event)` at `time_s` (seconds, not before now). Returns the event."""
        event = Event(self)
        event._ok = True
        event._value = None
        event.callbacks.append(callback)
        heappush(self._queue, (time_s, priority, next(self._eid), event))  # type: ignore[misc]
        return event
