"""Live migration: a decoding request moves to another instance while it goes on decoding (Llumnix, arXiv 2406.03243, section 4.2).

Its KV is copied in stages. The first stage sends all full blocks; each further one those that filled up meanwhile. When few enough are left
the request stops between two steps, the rest is copied, and it decodes on at the destination: the pause is one short copy, whatever the
length of the context. The destination's memory is taken before each copy, so a destination that fills up ends the migration and nothing
else. Decisions and memory follow the instances' steps: memory is taken between two steps of the destination, the request stops between two
steps of the source.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np

from simserve.engine.instance import Instance
from simserve.engine.instance_state import InstanceState
from simserve.engine.lane import Lane
from simserve.engine.link import Link, Transfer
from simserve.engine.records import Moves
from simserve.engine.request import LiveRequest, State
from simserve.engine.spec import MigrationSpec

NAN = float("nan")


class Migration:
    """One request on its way from `source` to `destination`."""

    def __init__(self, log: MigrationLog, spec: MigrationSpec, lane: Lane, destination: Instance, request: LiveRequest) -> None:
        self.source = source = lane.instance
        self.destination = destination
        self.request = request
        self.stopped = False
        self._lane = lane
        self._log = log
        self._spec = spec
        self._copied = 0
        self._stages = 0
        self._transfer: tuple[Link, Transfer] | None = None
        self._over = False
        self._start_s = source.clock.now
        self._stop_s = NAN
        source.migrating[request.row] = self
        log.under_way[request.row] = self
        destination.expect(request)
        destination.runner.at_boundary(destination.lanes[0], self._next_stage)

    def _computed_now(self) -> tuple[int, int]:
        """Tokens in the KV cache after the steps that have ended, and the most that the request gets in one more step."""
        lane = self._lane
        if not (lane.busy and lane.decodes_now):
            return lane.group.computed_after(self.request, 0), 1
        done = lane.steps_done(self.source.clock.now)
        return lane.group.computed_after(self.request, done), lane.group.most_gained(self.request, done)

    def _next_stage(self, now: float) -> None:
        """Between two steps of the destination: takes memory for the blocks of the coming stage."""
        if self._over:
            return
        kv = self.destination.kv
        computed, gained = self._computed_now()
        left = kv.table(computed + 1) - self._copied
        last = left <= self._spec.last_stage_blocks
        if not last and self._stages >= self._spec.max_stages:
            self.abort("the copy did not catch up")
            return
        # The request may take one more step before it stops, and holds the block of the token after that when it goes on.
        most = min(computed + gained + 1, self.destination.limit_tokens)
        blocks = (kv.table(most) if last else computed // kv.block_tokens) - self._copied
        if not kv.fits(kv.arriving(blocks, self._copied, last)):
            self.abort("the destination is full")
            return
        self.destination.kv.reserve(self.request.row, blocks, last)
        self._stages += 1
        if last:
            self.source.runner.at_boundary(self._lane, self._stop)
        else:
            self._copy(blocks * kv.block_tokens, 0.0, self._stage_copied)

    def _copy(self, tokens: int, more_bytes: float, done: Callable[[float], None]) -> None:
        link, spec = self.source.path_to(self.destination)
        size_bytes = tokens * spec.kv_bytes_per_token + more_bytes
        self._log.moved_tokens += tokens
        self._transfer = (link, link.start(size_bytes, done, spec.messages(size_bytes)))

    def _stage_copied(self, now: float) -> None:
        self._copied = self.destination.kv.table_here(self.request.row)
        self.destination.runner.at_boundary(self.destination.lanes[0], self._next_stage)

    def _stop(self, now: float) -> None:
        """Between two steps of the source: the request stops and the rest is copied."""
        if self._over:
            return
        self._lane.batch.detach(self.request)
        del self.source.migrating[self.request.row]
        self.stopped = True
        self._stop_s = now
        computed, (_, spec) = self.request.computed_tokens, self.source.path_to(self.destination)
        # Windows and recurrent state change with every token: they leave when the request has stopped.
        self._copy(computed - self._copied * self.source.kv.block_tokens, spec.beside_bytes(computed), self._arrived)

    def _arrived(self, now: float) -> None:
        """Everything is there: the request decodes on as soon as it has a sequence slot."""
        source, destination, request = self.source, self.destination, self.request
        self._end("", now)
        source.release_set_aside(request)
        source.forget(request)
        request = destination.seen(request)
        destination.kv.receive(request)
        destination.land(request)

    def abort(self, reason: str) -> None:
        """Gives up. A request that has not stopped goes on at the source as if nothing had been; one that has is back in its lane."""
        if self._over:
            return
        self._end(reason, NAN)
        if self._transfer is not None:
            self._transfer[0].cancel(self._transfer[1])
        self.source.migrating.pop(self.request.row, None)
        self.destination.forget(self.request)
        self.destination.unreserve(self.request.row)
        if self.stopped and self.request.row in self.source.kv.elsewhere:
            self.source.kv.take_back(self.request)
            self.source.land(self.request)

    def _end(self, reason: str, landed_s: float) -> None:
        self._over = True
        del self._log.under_way[self.request.row]
        self._log.add(
            self.request.row, self.source.index, self.destination.index, self._start_s, self._stop_s, landed_s, self._stages, reason
        )


class MigrationLog:
    """All migrations of a run: those under way, by row of the request, and one entry for each that is over."""

    def __init__(self) -> None:
        self.under_way: dict[int, Migration] = {}
        self.moved_tokens = 0
        self._numbers = array("q")
        self._times_s = array("d")
        self._outcomes: dict[str, int] = {"": 0}

    def add(
        self, row: int, source: int, destination: int, start_s: float, stop_s: float, landed_s: float, stages: int, reason: str
    ) -> None:
        """A migration is over; `reason` "" = it succeeded."""
        self._numbers.extend((row, source, destination, stages, self._outcomes.setdefault(reason, len(self._outcomes))))
        self._times_s.extend((start_s, stop_s, landed_s))

    def columns(self) -> Moves:
        """The entries, in the order in which the migrations ended."""
        numbers = np.frombuffer(self._numbers, dtype=np.int64).reshape(-1, 5) if len(self._numbers) else np.empty((0, 5), dtype=np.int64)
        times_s = np.frombuffer(self._times_s, dtype=np.float64).reshape(-1, 3) if len(self._times_s) else np.empty((0, 3))
        request, source, destination, stages, outcome = (numbers[:, column].copy() for column in range(5))
        start_s, stop_s, landed_s = (times_s[:, column].copy() for column in range(3))
        return Moves(request, source, destination, start_s, stop_s, landed_s, stages, outcome, tuple(self._outcomes))


def begin(log: MigrationLog, spec: MigrationSpec, source: Instance, destination: Instance, row: int) -> str:
    """Starts to move the request in `row` of the request table. Returns "" or why it cannot be moved."""
    if destination.state is not InstanceState.UP or source.role != destination.role or source.role == "prefill":
        return "the destination does not take such requests"
    for lane in source.lanes:
        request = lane.group.members.get(row)
        if request is None:
            continue
        if row in source.migrating:
            return "it is on its way already"
        if source.kv.block_tokens != destination.kv.block_tokens:
            return "the instances have KV blocks of different sizes"
        final = source.final_tokens[row]
        if request.prompt_tokens + final > destination.limit_tokens or request.state is not State.DECODING:
            return "it may become too long for the destination"
        Migration(log, spec, lane, destination, request)
        return ""
    return "it does not decode there"
