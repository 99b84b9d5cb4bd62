"""Writes what happens into columns, one write per event of a request's life (never per token)."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from simserve.engine.records import Emissions, EndedRequest, RequestColumns, Status
from simserve.engine.request import LiveRequest

NAN = float("nan")

GAVE_UP = "the client gave up"


class Recorder:
    """Columns of n requests, filled as they end."""

    def __init__(self, rows: int) -> None:
        self.released_s, self.scheduled_s, self.first_token_s, self.finish_s = (array("d") for _ in range(4))
        self.status = bytearray()
        self.reason, self.instance, self.generated, self.preemptions = (array("q") for _ in range(4))
        self.recomputed, self.cached, self.reread = (array("q") for _ in range(3))
        self.append(rows)
        self.reasons: dict[str, int] = {"": 0}
        self.ended = 0
        self.cancelled_tokens = 0
        """In the KV cache of requests when their clients gave up."""
        self.void_burst_tokens = 0
        """Of steps that verified drafted tokens, those that do not count any more (`void`)."""
        self._segments = array("q")
        self._segment_prefill_end_s = array("d")
        self._bursts = array("q")
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
        self.status[row] = Status.COMPLETED
        self.scheduled_s[row] = request.scheduled_s
        self.first_token_s[row] = request.first_token_s
        self.finish_s[row] = now
        self.instance[row] = instance
        self.generated[row] = request.generated_tokens
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
        self._segments.extend((request.row, lane, request.first_tick, last_tick))
        self._segment_prefill_end_s.append(request.prefill_end_s if request.prefill_end_s >= 0 else NAN)

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

        def floats(column: Any) -> Any:
            return np.frombuffer(column, dtype=np.float64) if len(column) else np.empty(0)

        def integers(column: Any) -> Any:
            return np.frombuffer(column, dtype=np.int64) if len(column) else np.empty(0, dtype=np.int64)

        return RequestColumns(
            released_s=floats(self.released_s),
            scheduled_s=floats(self.scheduled_s),
            first_token_s=floats(self.first_token_s),
            finish_s=floats(self.finish_s),
            status=np.frombuffer(self.status, dtype=np.int8) if self.status else np.empty(0, dtype=np.int8),
            reason=integers(self.reason).astype(np.int16),
            instance=integers(self.instance).astype(np.int32),
            generated_tokens=integers(self.generated),
            preemptions=integers(self.preemptions),
            recomputed_tokens=integers(self.recomputed),
            cached_tokens=integers(self.cached),
            reread_tokens=integers(self.reread),
            reasons=tuple(self.reasons),
        )

    def emissions(self) -> Emissions:
        """All segments, in the order in which they ended."""
        flat = self._segments
        table = np.frombuffer(flat, dtype=np.int64).reshape(-1, 4) if len(flat) else np.empty((0, 4), dtype=np.int64)
        prefill_end_s = np.array(self._segment_prefill_end_s)
        bursts = np.array(self._bursts, dtype=np.int64).reshape(-1, 2)
        if self._void:
            counts = np.array([number >= self._void.get(row, 0) for number, row in enumerate(table[:, 0].tolist())], dtype=bool)
            table, prefill_end_s = table[counts], prefill_end_s[counts]
            self.void_burst_tokens = int(bursts[~counts[bursts[:, 0]], 1].sum())
            bursts = bursts[counts[bursts[:, 0]]]
            bursts[:, 0] = np.cumsum(counts)[bursts[:, 0]] - 1
        return Emissions(
            request=table[:, 0].copy(),
            lane=table[:, 1].copy(),
            prefill_end_s=prefill_end_s,
            first_tick=table[:, 2].copy(),
            last_tick=table[:, 3].copy(),
            bursts=bursts,
        )
