"""Releases the requests of a workload: each at its time, after the last of those it depends on, or as a closed loop of clients.

Open arrivals may be under a bound of the client (`Workload.max_concurrency`): those that have come wait here for one to end.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from simserve.engine.clock import Clock, Event
from simserve.engine.events import CLIENT_ANSWERED, REQUEST_DUE
from simserve.engine.listener import Listener
from simserve.engine.sliding import Sliding
from simserve.workload.requests import RequestTable, Workload


class Source:
    """Tells the listener of every row of the workload at its time (`request_due`). The engine reports endings with `ended`.

    open_ended  rows will be appended; until `close` another arrival is to come, at a time that is not known yet
    sliding     rows may leave when they have ended (`drop_first`)
    """

    __slots__ = (
        "_agenda",
        "_appended",
        "_arrival_s",
        "_children",
        "_clock",
        "_concurrency",
        "_dropped",
        "_held",
        "_listener",
        "_most",
        "_next",
        "_open",
        "_place",
        "_ready",
        "_releasing",
        "_row",
        "_rows",
        "_think_s",
        "_under_way",
        "_upcoming",
        "_waits",
        "open_ended",
        "refill",
    )

    def __init__(self, workload: Workload, clock: Clock, listener: Listener, open_ended: bool = False, sliding: bool = False) -> None:
        self._clock = clock
        self._agenda = clock.agenda
        self._listener = listener
        table = workload.requests
        self._rows = len(table)
        self._concurrency = workload.concurrency
        self._think_s = workload.think_s
        self._most = workload.max_concurrency
        self._under_way = 0
        self._held: deque[int] = deque()
        self.open_ended = open_ended
        self._place: int | None = None
        """Among the events of one time, of the arrival that is to be appended."""
        self._appended: deque[int] = deque()
        self.refill: Callable[[], None] | None = None
        """Appends further rows when the last is about to arrive, or takes itself away (`pieces.py`)."""
        self._dropped: set[int] = set()
        """Rows that their clients have given up before they sent them."""
        arrival_s = array("d", table.arrival_s.tobytes())
        self._arrival_s: Any = Sliding(arrival_s) if sliding else arrival_s
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
            clients = self._concurrency
            self._clock.at(0.0, lambda event: self._release_now(self._next_rows(clients)), REQUEST_DUE)
        else:
            self._upcoming = iter(self._open)
            self._schedule_next()

    def append(self, table: RequestTable, end_of: Callable[[int], float | None]) -> None:
        """More rows, in an open-ended run; they name rows of the run. `end_of(row)` = when a row has ended, None if it has not."""
        first = self._rows
        self._rows += len(table)
        self._arrival_s.frombytes(table.arrival_s.tobytes())
        for place, parent in enumerate(table.after.tolist()):
            row = first + place
            if parent < 0:
                self._appended.append(row)
                continue
            parents = [parent] if table.also_after is None else [parent, *table.also_after.of(place)]
            ends_s = [end_of(parent) for parent in parents]
            left = [parent for parent, end_s in zip(parents, ends_s, strict=True) if end_s is None]
            for parent in left:
                self._children.setdefault(parent, []).append(row)
            if len(left) > 1:
                self._waits[row] = len(left)
            elif not left:
                end_s = max(end_s for end_s in ends_s if end_s is not None)
                self._clock.at(end_s + self._arrival_s[row], _calls(self._arrive, row), REQUEST_DUE)
        if self._place is not None and self._appended:
            place, self._place = self._place, None
            self._row = self._appended.popleft()
            self._clock.redeem(place, self._arrival_s[self._row], self._on_arrival, REQUEST_DUE)

    @property
    def more_to_come(self) -> bool:
        """Whether there may be rows beyond those that are known."""
        return self.open_ended or self.refill is not None

    def drop_first(self, rows: int) -> None:
        """The next rows of a sliding run have ended."""
        self._arrival_s.drop_first(rows)

    def close(self) -> None:
        """No more rows will be appended."""
        self.open_ended = False
        if self._place is not None:
            self._clock.give_back(self._place)
            self._place = None

    def _next_rows(self, count: int) -> list[int]:
        """The next rows that the clients of a closed loop send, at most so many."""
        rows: list[int] = []
        while len(rows) < count and self._next < self._rows:
            if self._next not in self._dropped:
                rows.append(self._next)
            self._next += 1
        return rows

    def _schedule_next(self) -> None:
        row = next(self._upcoming, None)
        if row is None and not self._appended and self.refill is not None:
            self.refill()
        if row is None and self._appended:
            row = self._appended.popleft()
        if row is not None:
            self._row = row
            self._agenda.at(self._arrival_s[row], self._on_arrival, REQUEST_DUE)
        elif self.open_ended:
            self._place = self._clock.reserve()

    def _on_arrival(self, event: Event) -> None:
        row = self._row
        self._schedule_next()
        self._arrive(row)

    def ended(self, rows: Iterable[int], now: float) -> None:
        """Requests have ended: release what waited for them."""
        if self._concurrency is not None:
            for row in rows:
                if self._next < self._rows and row not in self._dropped:
                    self._next += 1
                    self._release_later(self._next - 1, now, self._think_s)
            return
        if self._most is not None:
            rows = list(rows)
            self._free(sum(row not in self._dropped for row in rows), now)
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
        if self._dropped and row in self._dropped:
            if self._concurrency is not None:  # its client sends another
                self._release_now(self._next_rows(1))
        elif self._most is None:
            self._release_now((row,))
        else:
            self._held.append(row)
            self._send_held()

    def drop(self, row: int) -> None:
        """The client of a row will not send it."""
        self._dropped.add(row)
        if row in self._held:
            self._held.remove(row)

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
                self._listener.request_due(row, self._agenda.now)
        finally:
            self._ready.clear()
            self._releasing = False


def _calls(action: Callable[[int], None], row: int) -> Callable[[Event], None]:
    return lambda event: action(row)
