"""The waiting queue of an instance, in the order a queue discipline gives it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from sortedcontainers import SortedKeyList

from simserve.compiled import mypyc_attr
from simserve.engine.request import LiveRequest, State

_WAITING = State.WAITING  # read in a third of the time of an enumeration's attributes


@mypyc_attr(allow_interpreted_subclasses=True)
class FcfsQueue:
    """First come, first served; preempted requests return to the front, or wait `last`, behind all that have come."""

    __slots__ = ("_last", "_queue")

    fcfs = True

    def __init__(self, last: bool = False) -> None:
        self._queue: deque[LiveRequest] = deque()
        self._last = last

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[LiveRequest]:
        """In order. The request last yielded may be removed (admitted, rejected) meanwhile; the walk goes on with the next."""
        queue = self._queue
        passed = 0
        while passed < len(queue):
            request = queue[passed]
            yield request
            if request.state is _WAITING:
                passed += 1

    def push(self, request: LiveRequest) -> None:
        """A newcomer."""
        self._queue.append(request)

    def give_back(self, request: LiveRequest) -> None:
        """A request that has been loaded: it is first."""
        self._queue.appendleft(request)

    def requeue(self, request: LiveRequest) -> None:
        """A preempted request."""
        if self._last:
            self._queue.append(request)
        else:
            self._queue.appendleft(request)

    def to_front(self, request: LiveRequest) -> None:
        """A request that waits goes to the front."""
        self._queue.remove(request)
        self._queue.appendleft(request)

    def remove(self, request: LiveRequest) -> None:
        """Takes out a request, usually the head. Raises ValueError if it is not here."""
        if self._queue and self._queue[0] is request:
            self._queue.popleft()
        else:
            self._queue.remove(request)

    def find(self, row: int) -> LiveRequest | None:
        """The request of a row, None if it is not here."""
        return next((request for request in self._queue if request.row == row), None)


@mypyc_attr(allow_interpreted_subclasses=True)
class SortedQueue:
    """Ordered by a key; preempted requests return to the place of their key, among equals by row, or `last`, behind those there."""

    fcfs = False

    def __init__(self, key: Callable[[LiveRequest], Any], last: bool = False) -> None:
        self._key = key
        self._last = last
        self._came: dict[int, int] = {}  # by row, with `last`: its place among those that have come
        self._comings = 0
        self._queue: SortedKeyList = SortedKeyList(key=lambda entry: entry[0])
        self._keys: dict[int, tuple[Any, LiveRequest]] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[LiveRequest]:
        """In order; the request last yielded may be removed meanwhile."""
        passed = 0
        while passed < len(self._queue):
            request = self._queue[passed][1]
            yield request
            if request.state is _WAITING:
                passed += 1

    def push(self, request: LiveRequest) -> None:
        """A newcomer."""
        if self._last:
            self._comings += 1
            self._came[request.row] = self._comings
        self.give_back(request)

    def requeue(self, request: LiveRequest) -> None:
        """A preempted request."""
        self.push(request)

    def give_back(self, request: LiveRequest) -> None:
        """A request that was here a moment ago: its key may be another."""
        place = self._came[request.row] if self._last else request.row
        entry = ((self._key(request), place), request)
        self._keys[request.row] = entry
        self._queue.add(entry)

    def to_front(self, request: LiveRequest) -> None:
        """Requests wait where their keys say."""

    def remove(self, request: LiveRequest) -> None:
        """Takes out a request. Raises KeyError if it is not here."""
        self._queue.remove(self._keys.pop(request.row))

    def find(self, row: int) -> LiveRequest | None:
        """The request of a row, None if it is not here."""
        entry = self._keys.get(row)
        return None if entry is None else entry[1]


WaitingQueue = FcfsQueue | SortedQueue
