"""When the lanes of an instance take steps. Here: one lane, one step (or span of steps) after the other; pipeline.py: one lane a stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from simserve.engine.clock import Clock, Event
from simserve.engine.events import LANE_WAKES
from simserve.engine.lane import Lane
from simserve.engine.request import LiveRequest
from simserve.engine.timers import PATIENCE
from simserve.errors import PolicyError

if TYPE_CHECKING:
    from simserve.engine.instance import Instance


class Runner(Protocol):
    """What an instance asks of the part that runs its lanes.

    claim  a running request that waits for memory before any other may take any; None on a single lane (see Pipeline)
    """

    lanes: list[Lane]
    claim: LiveRequest | None

    @property
    def busy(self) -> bool:
        """Whether a step is in progress."""
        ...

    def arrived(self) -> None:
        """A request has come; it is seen by every plan made at this instant or later."""

    def poke(self) -> None:
        """Something outside has changed (memory, requests that landed): plan again, at the end of the step in progress if there is one."""

    def at_boundary(self, lane: Lane, action: Callable[[float], None]) -> None:
        """Calls `action(now)` when the lane is between two steps: now, or at the end of the step in progress."""

    def ask_again(self, at_s: float) -> None:
        """A policy that plans nothing now wants to be asked at `at_s`."""

    def step_ended(self, lane: Lane, now: float) -> None:
        """A lane's step is over and its tokens are out: the next step."""

    def keeps_kv(self, request: LiveRequest) -> bool:
        """Whether a running request may not be preempted, so that one always keeps what it has."""
        ...

    def gave_up_kv(self) -> None:
        """A request has given up its KV: requests that wait for memory are asked again."""

    def others_work(self, lane: Lane) -> bool:
        """Whether another lane has requests, whose steps will free memory."""
        ...

    @property
    def grown_blocks(self) -> int:
        """KV blocks taken by steps of a span in progress that have passed; the cache counts them when the span ends."""
        ...

    def settle(self) -> None:
        """Brings lanes, batches and memory up to now, where steps have been worked out ahead. Before they are looked at from outside."""

    def crash(self, now: float) -> None:
        """The instance has died and its lanes are empty."""


class Waker:
    """Calls `action(now)` at the present time, after all that brings work at it: once, however often it is asked.

    postponed  times in a row that a policy has planned nothing until a later time; a step that ends sets it to 0
    """

    __slots__ = (
        "_action",
        "_again",
        "_agenda",
        "_priority",
        "_soon",
        "postponed",
    )

    def __init__(self, clock: Clock, lane: int, action: Callable[[float], None]) -> None:
        self._agenda = clock.agenda
        self._priority = LANE_WAKES + lane
        self._action = action
        self._soon: Event | None = None
        self._again: Event | None = None
        self.postponed = 0

    def soon(self) -> None:
        """Now."""
        if self._soon is None:
            self._soon = self._agenda.at(self._agenda.now, self._ring, self._priority)

    def later(self, at_s: float, who: str) -> None:
        """At `at_s`, unless another time is stated before. Raises PolicyError for a policy that postpones for ever."""
        self.postponed += 1
        if self.postponed > PATIENCE:
            raise PolicyError(
                f"policy '{who}' has planned nothing {PATIENCE} times in a row, until a later time each time, and requests wait: no "
                "progress is possible (invariant I5)"
            )
        self._again = self._agenda.at(at_s, self._ring_again, self._priority)

    def _ring(self, event: Event) -> None:
        self._soon = None
        self._agenda.pass_by(self._priority)
        self._action(self._agenda.now)

    def _ring_again(self, event: Event) -> None:
        if event is self._again:
            self._again = None
            self.soon()


class SingleLane:
    """One batch, one step at a time; a step that repeats is a span."""

    __slots__ = (
        "_instance",
        "_intake",
        "_lane",
        "_waker",
        "lanes",
    )

    claim: LiveRequest | None = None

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._intake = instance.intake
        self._lane = Lane(instance, self, 0)
        self.lanes = [self._lane]
        self._waker = Waker(instance.clock, instance.lane_offset, self._wake)

    @property
    def busy(self) -> bool:
        """Whether a step is in progress."""
        return self._lane.busy

    def arrived(self) -> None:
        """A request has come: the span in progress ends with the step in progress, unless its plan ignores arrivals."""
        if self._lane.busy:
            self._lane.arrival(self._lane.agenda.now)
        else:
            self._waker.soon()

    def poke(self) -> None:
        """Something outside has changed: plan again."""
        if self._lane.busy:
            self._lane.interrupt(self._instance.clock.now)
        else:
            self._waker.soon()

    def at_boundary(self, lane: Lane, action: Callable[[float], None]) -> None:
        """Calls `action(now)` between two steps."""
        now = self._instance.clock.now
        if lane.busy:
            lane.boundary.append(action)
            lane.interrupt(now)
        else:
            action(now)

    def ask_again(self, at_s: float) -> None:
        """A policy that plans nothing now wants to be asked at `at_s`."""
        self._instance.postponed += 1
        self._waker.later(at_s, self._instance.policy_name)

    def step_ended(self, lane: Lane, now: float) -> None:
        """The next step."""
        intake = self._intake
        self._waker.postponed = 0
        while lane.boundary:
            lane.boundary.pop(0)(now)
        if self._instance.kv_transfers is not None:
            self._instance.pull()
        if intake.unseen:
            intake.come_nearer(lane.steps)
        if intake.inbox:
            intake.take_in(lane.busy)
        lane.start(now)

    def _wake(self, now: float) -> None:
        instance, lane = self._instance, self._lane
        if instance.is_off:
            return
        if lane.busy and lane.batch.landed:
            lane.interrupt(now)
        elif lane.busy:
            lane.arrival(now, comes=False)
        else:
            self._intake.take_in()
            lane.start(now)

    def keeps_kv(self, request: LiveRequest) -> bool:
        """Never: what a request gives up is its own batch's."""
        return False

    def gave_up_kv(self) -> None:
        """No other lane waits for it."""

    def others_work(self, lane: Lane) -> bool:
        """There are no others."""
        return False

    @property
    def grown_blocks(self) -> int:
        """KV blocks taken by steps of the span in progress that have passed."""
        return self._lane.blocks_grown(self._instance.clock.now)

    def settle(self) -> None:
        """Steps of a span are looked up in its list of ends, but for those with chunks, each of which is recorded."""
        if self._lane.busy:
            self._lane.settle_chunks(self._lane.agenda.now)

    def crash(self, now: float) -> None:
        """Nothing is left."""
