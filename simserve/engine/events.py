"""The events of the clock, by name.

Events of one time come in the order of their numbers. Those that bring work come first, so a plan made at t sees what arrived at t. Those
of a lane have the lane's number added: steps that end at the same time end in the order of the lanes, however they were scheduled.
"""

from __future__ import annotations

from simpy.events import NORMAL, URGENT

REQUEST_DUE = URGENT
"""The time of a row has come: its arrival, its think time after another one, the first of a closed loop."""

CLIENT_ANSWERED = URGENT
"""A client that bounds its requests under way has an answer, and may send another request."""

REQUEST_ENTERS = URGENT
"""A request reaches its instance, after the time it spends outside (HTTP, tokenising)."""

LOAD_ENDS = URGENT
"""What a request waited for is there."""

CLIENT_GIVES_UP = URGENT
"""A client does not want the answer any more."""

COPY_STARTS = URGENT
"""The first byte of a copy leaves, after the link's latency."""

COPY_ENDS = URGENT
"""The last byte of a copy has arrived."""

TIMER = URGENT
"""Signals are refreshed, a controller acts, an instance serves after its boot or fails."""

STEP_ENDS = NORMAL
"""A step or a span of steps of a lane is over (plus the lane's number)."""

STAGE_FREE = NORMAL
"""A pipeline's first stage can take another lane's step (plus the lane's number)."""

LANE_WAKES = NORMAL
"""An idle instance looks at what has come, or its policy's time has come (plus its first lane's number)."""

EVENTS = {
    "REQUEST_DUE": (REQUEST_DUE, "source"),
    "CLIENT_ANSWERED": (CLIENT_ANSWERED, "source"),
    "REQUEST_ENTERS": (REQUEST_ENTERS, "simulate"),
    "LOAD_ENDS": (LOAD_ENDS, "loading"),
    "CLIENT_GIVES_UP": (CLIENT_GIVES_UP, "cancellation"),
    "COPY_STARTS": (COPY_STARTS, "link"),
    "COPY_ENDS": (COPY_ENDS, "link"),
    "TIMER": (TIMER, "timers, cluster"),
    "STEP_ENDS": (STEP_ENDS, "lane"),
    "STAGE_FREE": (STAGE_FREE, "pipeline"),
    "LANE_WAKES": (LANE_WAKES, "runner"),
}
"""Event -> its number and the modules of the engine that schedule it."""
