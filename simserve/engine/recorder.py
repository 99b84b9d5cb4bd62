"""Writes what happens into columns, one write per event of a request's life (never per token)."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any

import numpy as np

from simserve.contracts.cost import I64
from simserve.engine.noted import Noted
from simserve.engine.records import Emissions, EndedRequest, LaneLog, RequestColumns, Status
from simserve.engine.request import LiveRequest
from simserve.engine.sliding import Sliding, as_array

NAN = float("nan")

_COMPLETED = int(Status.COMPLETED)  # read in a third of the time of an enumeration's attributes

_segment = Struct("4q").pack

GAVE_UP = "the client gave up"


class Recorder:
    """Columns of n requests, filled as they end. `sliding`: rows that have ended may be taken out while the run goes on (`take`)."""

    __slots__ = (
        "_bursts",
        "_courses",
        "_ends",
        "_first",
        "_segment_prefill_end_s",
        "_segments",
        "_void",
        "cached",
        "cancelled_tokens",
        "ended",
        "finish_s",
        "first_token_s",
        "generated",
        "instance",
        "overrun_tokens",
        "preemptions",
        "reason",
        "reasons",
        "recomputed",
        "released_s",
        "reread",
        "scheduled_s",
        "status",
        "void_burst_tokens",
    )

    def __init__(self, rows: int, sliding: bool = False) -> None:
        def column(kind: str) -> Any:
            values = array(kind) if kind else bytearray()
            return Sliding(values) if sliding else values

        self.released_s, self.scheduled_s, self.first_token_s, self.finish_s = (column("d") for _ in range(4))
        self.status = column("")
        self.reason, self.instance, self.generated, self.preemptions = (column("q") for _ in range(4))
        self.recomputed, self.cached, self.reread = (column("q") for _ in range(3))
        columns = (self.status, self.scheduled_s, self.first_token_s, self.finish_s, self.instance, self.generated)
        self._ends: tuple[Any, ...] = tuple(column.plain if sliding else column for column in columns)
        """What is written of every request that completes, by place: `row - _first`. A sliding column would take a call for each."""
        self._first = 0
        self.append(rows)
        self.reasons: dict[str, int] = {"": 0}
        self.ended = 0
        self.cancelled_tokens = 0
        self.overrun_tokens = 0
        """In the KV cache of requests when their clients gave up."""
        self.void_burst_tokens = 0
        """Of steps that verified drafted tokens, those that do not count any more (`void`)."""
        self._segments = array("q")
        self._segment_prefill_end_s = array("d")
        self._bursts = array("q")
        self._courses: dict[int, I64] = {}  # segment -> tokens of each of its ticks, where that is not one
        self._void: dict[int, int] = {}

    def append(self, rows: int) -> None:
        """There are so many more requests."""
        nan, zero, none = array("d", [NAN]), array("q", [0]), array("q", [-1])
        for times_s in (self.released_s, self.scheduled_s, self.first_token_s, self.finish_s):
            times_s.extend(nan * rows)
        for counts in (self.reason, self.generated, self.preemptions, self.recomputed, self.cached, self.reread):
            counts.extend(zero * rows)
        self.instance.extend(none * rows)
        self.status.extend(bytes(rows))

    def completed(self, request: LiveRequest, instance: int, now: float) -> None:
        """The request has emitted its last token at `now` (seconds)."""
        row = request.row
        status, scheduled_s, first_token_s, finish_s, served_by, generated = self._ends
        place = row - self._first
        status[place] = _COMPLETED
        scheduled_s[place] = request.scheduled_s
        first_token_s[place] = request.first_token_s
        finish_s[place] = now
        served_by[place] = instance
        generated[place] = request.generated_tokens
        if request.preemptions or request.recomputed_tokens:
            self.preemptions[row] = request.preemptions
            self.recomputed[row] = request.recomputed_tokens
        if request.cached_tokens or request.reread_tokens:
            self._found(request)
        self.ended += 1

    def _found(self, request: LiveRequest) -> None:
        self.cached[request.row] = request.cached_tokens
        self.reread[request.row] = request.reread_tokens

    def note(self, row: int, reason: str) -> None:
        """A reason beside the ending, such as a truncated output."""
        self.reason[row] = self.reasons.setdefault(reason, len(self.reasons))

    def rejected(self, row: int, now: float, reason: str, status: Status = Status.REJECTED) -> None:
        """The request is refused (or known to have failed) at `now`."""
        self.status[row] = status
        self.finish_s[row] = now
        self.note(row, reason)
        self.ended += 1

    def refused(self, request: LiveRequest, instance: int, now: float, reason: str) -> None:
        """A policy refuses the request. One that has emitted tokens, elsewhere or before it lost its place, has failed: they are out."""
        if request.generated_tokens:
            self.unfinished(request, instance)
        self.rejected(request.row, now, reason, Status.FAILED if request.generated_tokens else Status.REJECTED)

    def failed(self, request: LiveRequest, now: float, reason: str) -> None:
        """The request has ended for good without all its tokens; what it had computed is counted as recomputed."""
        self.unfinished(request, self.instance[request.row])
        self.rejected(request.row, now, reason, Status.FAILED)

    def cancelled(self, request: LiveRequest, instance: int, now: float) -> None:
        """The client of a request has given up, and the request has left."""
        self.unfinished(request, instance)
        self.cancelled_tokens += request.computed_tokens
        self.rejected(request.row, now, GAVE_UP, Status.CANCELLED)

    def void(self, row: int) -> None:
        """Tokens that the request has emitted so far do not count: it starts from the beginning."""
        self._void[row] = len(self._segment_prefill_end_s)

    def segment(self, request: LiveRequest, lane: int, last_tick: int) -> None:
        """Tokens emitted since the request's prefill ended or it came back (see records.Emissions)."""
        self._segments.frombytes(_segment(request.row, lane, request.first_tick, last_tick))
        self._segment_prefill_end_s.append(request.prefill_end_s if request.prefill_end_s >= 0 else NAN)

    def course(self, request: LiveRequest, lane: int, tokens: I64) -> None:
        """The same of a request in a lane that speculates: the tokens of each tick since then."""
        if len(tokens):
            self._courses[len(self._segment_prefill_end_s)] = tokens
        self.segment(request, lane, request.first_tick + len(tokens) - 1)

    def burst(self, request: LiveRequest, lane: int, tick: int, tokens: int, now: float) -> None:
        """A step that verified drafted tokens has emitted `tokens` tokens at `now`."""
        self._bursts.extend((len(self._segment_prefill_end_s), tokens))
        self._segments.extend((request.row, lane, tick, tick - 1))
        self._segment_prefill_end_s.append(now)

    def unfinished(self, request: LiveRequest, instance: int) -> None:
        """The run is cut while the request is in the system."""
        row = request.row
        if request.scheduled_s >= 0:
            self.scheduled_s[row] = request.scheduled_s
        if request.first_token_s >= 0:
            self.first_token_s[row] = request.first_token_s
        self.instance[row] = instance
        self.generated[row] = request.generated_tokens
        self.preemptions[row] = request.preemptions
        self.recomputed[row] = request.recomputed_tokens
        self._found(request)

    def ended_request(self, row: int) -> EndedRequest:
        """What has become of a request that has ended."""
        return EndedRequest(
            row=row,
            status=Status(self.status[row]),
            reason=list(self.reasons)[self.reason[row]],
            instance=self.instance[row],
            released_s=self.released_s[row],
            scheduled_s=self.scheduled_s[row],
            first_token_s=self.first_token_s[row],
            finish_s=self.finish_s[row],
            generated_tokens=self.generated[row],
            preemptions=self.preemptions[row],
            recomputed_tokens=self.recomputed[row],
            cached_tokens=self.cached[row],
            reread_tokens=self.reread[row],
        )

    def request_columns(self) -> RequestColumns:
        """The columns as arrays (no copies of the large ones)."""
        return self._columns(as_array)

    def _columns(self, values: Callable[[Any], Any]) -> RequestColumns:
        return RequestColumns(
            released_s=values(self.released_s),
            scheduled_s=values(self.scheduled_s),
            first_token_s=values(self.first_token_s),
            finish_s=values(self.finish_s),
            status=values(self.status),
            reason=values(self.reason).astype(np.int16),
            instance=values(self.instance).astype(np.int32),
            generated_tokens=values(self.generated),
            preemptions=values(self.preemptions),
            recomputed_tokens=values(self.recomputed),
            cached_tokens=values(self.cached),
            reread_tokens=values(self.reread),
            reasons=tuple(self.reasons),
        )

    def emissions(self, lanes: Sequence[LaneLog]) -> Emissions:
        """All segments, in the order in which they ended. `lanes`: those that the segments name, by whose ticks they go."""
        self.void_burst_tokens = 0
        return self._noted().emissions(lanes)

    def _noted(self) -> Noted:
        """What has been noted of tokens, without what does not count any more."""
        flat = self._segments
        table = np.frombuffer(flat, dtype=np.int64).reshape(-1, 4) if len(flat) else np.empty((0, 4), dtype=np.int64)
        noted = Noted(table, np.array(self._segment_prefill_end_s), np.array(self._bursts, dtype=np.int64).reshape(-1, 2), self._courses)
        if self._void:
            counts = np.array([number >= self._void.get(row, 0) for number, row in enumerate(table[:, 0].tolist())], dtype=bool)
            self.void_burst_tokens += int(noted.bursts[~counts[noted.bursts[:, 0]], 1].sum())
            self.void_burst_tokens += int(sum(tokens.sum() for number, tokens in self._courses.items() if not counts[number]))
            noted = noted.of(counts)
        return noted

    def take(self, rows: int) -> tuple[RequestColumns, Noted]:
        """The columns and segments of the first rows of a sliding recorder: as many, counted from the first that is still here. All of
        them have ended; they are no longer here afterwards."""
        noted = self._noted()
        gone = noted.segments[:, 0] < self.status.first + rows
        left = noted.of(~gone)
        noted = noted.of(gone)
        self._void = {}
        self._segments, self._segment_prefill_end_s = array("q", left.segments.tobytes()), array("d", left.prefill_end_s.tobytes())
        self._bursts, self._courses = array("q", left.bursts.tobytes()), left.courses
        self._first += rows
        return self._columns(lambda column: column.drop_first(rows)), noted

    def earliest_ticks(self, lanes: int) -> list[int | None]:
        """For each lane the first tick of the segments that are here; None without any."""
        table = as_array(self._segments).reshape(-1, 4)
        found: list[int | None] = [None] * lanes
        for lane in np.unique(table[:, 1]).tolist():
            found[lane] = int(table[table[:, 1] == lane, 2].min())
        return found
