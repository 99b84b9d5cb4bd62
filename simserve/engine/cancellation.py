"""Clients that do not want an answer any more: their requests leave, wherever they are, and give back what they hold.

A request that is in a step leaves when that step has ended, as engines abort between two steps; any other leaves at once. What it has
emitted by then stays recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from simserve.engine.clock import Event
from simserve.engine.events import CLIENT_GIVES_UP
from simserve.engine.instance import Instance
from simserve.engine.lane import Lane
from simserve.engine.request import LiveRequest, State
from simserve.errors import InvariantError

if TYPE_CHECKING:
    from simserve.engine.simulate import Simulation


class Cancellations:
    """Takes requests out of a run. Nothing here costs anything in a run in which no client gives up."""

    def __init__(self, run: Simulation) -> None:
        self._run = run
        self._events: dict[int, Event] = {}
        """When clients will give up, by row."""
        self._places: dict[int, Instance] = {}
        """The instance that a request was sent to, where clients may give up: looked at first."""
        self._leaving: set[int] = set()
        """Rows that leave at the end of a step in progress."""

    def at(self, row: int, at_s: float) -> None:
        """The client of a row gives up at `at_s`, if the request has not ended by then."""
        earlier = self._events.pop(row, None)
        if earlier is not None:
            self._run.clock.withdraw(earlier)
        self._events[row] = self._run.clock.at(at_s, lambda event: self._take_out(row), CLIENT_GIVES_UP)

    def sent(self, row: int, place: Instance) -> None:
        """A request is sent to an instance."""
        self._places[row] = place

    def ended(self, row: int) -> None:
        """A request has ended: its client waits no more."""
        self._places.pop(row, None)
        event = self._events.pop(row, None)
        if event is not None:
            self._run.clock.withdraw(event)

    def is_leaving(self, row: int) -> bool:
        """Whether a request has only been left to the end of its step."""
        return row in self._leaving

    def record(self, request: LiveRequest, instance: int) -> None:
        """A request has left for good; `instance` as in the records."""
        self._leaving.discard(request.row)
        request.state = State.ENDED
        self._run.recorder.cancelled(request, instance, self._run.clock.now)

    def _take_out(self, row: int, between: Lane | None = None) -> None:
        """Ends the request in `row`, wherever it is. `between` = a lane that is between two steps."""
        run = self._run
        recorder, now = run.recorder, run.clock.now
        if between is None:
            self._events.pop(row, None)
        else:
            self._leaving.discard(row)
        if recorder.status[row]:
            return
        if recorder.released_s[row] != recorder.released_s[row]:  # NaN: its client has not sent it
            run.never_sent(row, now)
            return
        on_its_way = run.coming.pop(row, None)
        if on_its_way is not None:
            request, instance = on_its_way
            self.record(request, -1)
            instance.ended([request], now)
            return
        for request in run.cluster.held:
            if request.row == row:
                run.cluster.held.remove(request)
                self.record(request, -1)
                run.ended((row,), now)
                run.instance_available(now)
                return
        kv_transfers = run.cluster.kv_transfers
        move = kv_transfers.moves.get(row) if kv_transfers is not None else None
        if kv_transfers is not None and move is not None and move.prefilled:
            kv_transfers.give_up(move)
            self.record(move.request, move.source.index)
            move.source.expect(move.request)  # it has been forgotten there, and its end is told as any other
            move.source.ended([move.request], now)
            return
        migration = run.cluster.migrations.under_way.get(row)
        if migration is not None and migration.stopped:
            migration.abort("the request ended")  # it is back at its source, in no step
        for instance in self._instances(row):
            if self._leave(instance, row, between):
                return
        raise InvariantError(f"invariant I1 is broken: request {row} has been released, has not ended and is nowhere")

    def _instances(self, row: int) -> Iterator[Instance]:
        """All with requests; the likeliest first."""
        first = self._places.get(row)
        if first is not None:
            yield first
        for instance in self._run.instances:
            if instance.outstanding and instance is not first:
                yield instance

    def _leave(self, instance: Instance, row: int, between: Lane | None) -> bool:
        """Takes a request out of an instance, now or at the end of its step. False = it is not there."""
        instance.runner.settle()
        request = instance.intake.withdraw(row)
        if request is not None:
            instance.signals.waiting[instance.index] -= 1
        else:
            request = instance.loads.withdraw(row)
        if request is not None:
            if request.held_blocks:  # it waits for a load, or has waited for one
                instance.kv.give_up(request, instance.runner.grown_blocks)
            self._gone(instance, request)
            return True
        for lane in instance.lanes:
            request = lane.batch.find(row)
            if request is None:
                continue
            if lane.busy and lane is not between and lane.batch.runs(request):
                self._leaving.add(row)
                instance.runner.at_boundary(lane, partial(self._at_boundary, row, lane))
            else:
                lane.batch.give_up(request)
                self._gone(instance, request)
            return True
        return False

    def _at_boundary(self, row: int, lane: Lane, now: float) -> None:
        self._take_out(row, lane)

    def _gone(self, instance: Instance, request: LiveRequest) -> None:
        self.record(request, instance.index)
        instance.ended([request], self._run.clock.now)
        instance.runner.poke()
