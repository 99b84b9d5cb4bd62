"""Releases the requests of a workload: each at its time, after the last of those it depends on, or as a closed loop of clients.

Open arrivals may be under a bound of the client (`Workload.max_concurrency`): those that have come wait here for one to end.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections import deque
from collections.abc import Iterable

import numpy as np
from simpy.events import Event

from simserve.engine.clock import Clock
from simserve.engine.events import CLIENT_ANSWERED, REQUEST_DUE
from simserve.engine.listener import Listener
from simserve.workload.requests import Workload


class Source:
    """Tells the listener of every row of the workload at its time (`request_due`). The engine reports endings with `ended`."""

    def __init__(self, workload: Workload, clock: Clock, listener: Listener) -> None:
        self._clock = clock
        self._listener = listener
        table = workload.requests
        self._rows = len(table)
        self._concurrency = workload.concurrency
        self._think_s = workload.think_s
        self._most = workload.max_concurrency
        self._under_way = 0
        self._held: deque[int] = deque()
        self._arrival_s = array("d", table.arrival_s.tobytes())
        self._children: dict[int, list[int]] = {}
        self._open: Iterable[int] = range(self._rows)
        self._next = 0
        self._ready: list[int] = []
        self._releasing = False
        if workload.concurrency is None and bool(np.any(table.after >= 0)):
            for row in np.flatnonzero(table.after >= 0).tolist():
                self._children.setdefault(int(table.after[row]), []).append(row)
            self._open = np.flatnonzero(table.after < 0).tolist()
        self._waits: dict[int, int] = {}
        """Of rows that wait for several others, how many of these have not ended."""
        if self._children and table.also_after is not None:
            counts = table.also_after.counts
            for row in np.flatnonzero(counts).tolist():
                self._waits[row] = 1 + int(counts[row])
                for parent in table.also_after.of(row):
                    insort(self._children.setdefault(parent, []), row)

    def start(self) -> None:
        """Schedules the first releases."""
        if self._concurrency is not None:
            first = min(self._concurrency, self._rows)
            self._next = first
            self._clock.at(0.0, lambda event: self._release_now(range(first)), REQUEST_DUE)
        else:
            self._upcoming = iter(self._open)
            self._schedule_next()

    def _schedule_next(self) -> None:
        row = next(self._upcoming, None)
        if row is not None:
            self._row = row
            self._clock.at(self._arrival_s[row], self._on_arrival, REQUEST_DUE)

    def _on_arrival(self, event: Event) -> None:
        row = self._row
        self._schedule_next()
        self._arrive(row)

    def ended(self, rows: Iterable[int], now: float) -> None:
        """Requests have ended: release what waited for them."""
        if self._concurrency is not None:
            for _ in rows:
                if self._next < self._rows:
                    self._next += 1
                    self._release_later(self._next - 1, now, self._think_s)
            return
        if self._most is not None:
            rows = list(rows)
            self._free(len(rows), now)
        if self._children:
            for row in rows:
                for child in self._children.pop(row, ()):
                    if child not in self._waits or self._is_last(child):
                        self._release_later(child, now, self._arrival_s[child])

    def _is_last(self, row: int) -> bool:
        """One of several that a row waits for has ended: whether it was the last."""
        self._waits[row] -= 1
        return not self._waits[row]

    def _release_later(self, row: int, now: float, delay_s: float) -> None:
        if now + delay_s > now:
            self._clock.at(now + delay_s, lambda event: self._arrive(row), REQUEST_DUE)
        else:
            self._arrive(row)

    def _arrive(self, row: int) -> None:
        """The time of a row has come: it is released, or waits at the client for one of those under way to end."""
        if self._most is None:
            self._release_now((row,))
        else:
            self._held.append(row)
            self._send_held()

    def _free(self, count: int, now: float) -> None:
        """So many answers are on their way to the client, which has them `think_s` later and may then send as many others."""

        def answered(event: Event | None = None) -> None:
            self._under_way -= count
            self._send_held()

        if now + self._think_s > now:
            self._clock.at(now + self._think_s, answered, CLIENT_ANSWERED)
        else:
            answered()

    def _send_held(self) -> None:
        assert self._most is not None
        while self._held and self._under_way < self._most:
            self._under_way += 1
            self._release_now((self._held.popleft(),))

    def _release_now(self, rows: Iterable[int]) -> None:
        """Releases rows at the present time; those released by endings that this causes follow in turn, without recursion."""
        self._ready.extend(rows)
        if self._releasing:
            return
        self._releasing = True
        try:
            for row in self._ready:
                self._listener.request_due(row, self._clock.now)
        finally:
            self._ready.clear()
            self._releasing = False
