"""A link between instances: latency and bytes over bandwidth, the bandwidth shared fairly by the transfers in flight."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from simserve.engine.clock import Clock, Event
from simserve.engine.events import COPY_ENDS, COPY_STARTS
from simserve.errors import ConfigError


class Transfer:
    """One copy under way. `done(now)` is called when the last byte has arrived, unless it is cancelled before."""

    __slots__ = ("active", "cancelled", "done", "size_bytes")

    def __init__(self, size_bytes: float, done: Callable[[float], None]) -> None:
        self.size_bytes = size_bytes
        self.done = done
        self.cancelled = False
        self.active = False


class Link:
    """Processor sharing: n transfers in flight get 1/n of the bandwidth each.

    bytes_per_s    bandwidth, > 0
    latency_s      before the first byte of a transfer
    per_message_s  for every further message of a transfer (a copy of scattered blocks takes one each)

    Kept exactly with a virtual clock that runs at bytes_per_s / n: a transfer ends when it has advanced by the transfer's size.
    Raises ConfigError for a bandwidth that is not positive.
    """

    def __init__(self, clock: Clock, bytes_per_s: float, latency_s: float = 0.0, per_message_s: float = 0.0) -> None:
        if not bytes_per_s > 0:
            raise ConfigError(f"a link needs a bandwidth above 0, found {bytes_per_s} bytes/s")
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._latency_s = latency_s
        self._per_message_s = per_message_s
        self._virtual_bytes = 0.0
        self._since_s = 0.0
        self._active = 0
        self._heap: list[tuple[float, int, Transfer]] = []
        self._serial = count()
        self._next_event: Event | None = None

    def start(self, size_bytes: float, done: Callable[[float], None], messages: int = 1) -> Transfer:
        """Begins a copy of `size_bytes` bytes in `messages` messages."""
        transfer = Transfer(size_bytes, done)
        delay_s = self._latency_s + max(0, messages - 1) * self._per_message_s
        if delay_s > 0:
            self._clock.at(self._clock.now + delay_s, lambda event: self._enter(transfer), COPY_STARTS)
        else:
            self._enter(transfer)
        return transfer

    def cancel(self, transfer: Transfer) -> None:
        """Stops a copy; the others get its share from now on."""
        if transfer.cancelled:
            return
        transfer.cancelled = True
        if transfer.active:
            self._advance()
            transfer.active = False
            self._active -= 1
            self._schedule()

    @property
    def in_flight(self) -> int:
        """Transfers that share the bandwidth now."""
        return self._active

    def _enter(self, transfer: Transfer) -> None:
        if transfer.cancelled:
            return
        self._advance()
        transfer.active = True
        self._active += 1
        heappush(self._heap, (self._virtual_bytes + transfer.size_bytes, next(self._serial), transfer))
        self._schedule()

    def _advance(self) -> None:
        """Brings the virtual clock to now."""
        now = self._clock.now
        if self._active:
            self._virtual_bytes += (now - self._since_s) * self._bytes_per_s / self._active
        self._since_s = now

    def _schedule(self) -> None:
        """The next end of a transfer becomes the next event; an event scheduled earlier is stale."""
        while self._heap and self._heap[0][2].cancelled:
            heappop(self._heap)
        self._next_event = None
        if self._heap:
            left_bytes = max(0.0, self._heap[0][0] - self._virtual_bytes)
            at = max(self._clock.now, self._since_s + left_bytes * self._active / self._bytes_per_s)
            self._next_event = self._clock.at(at, self._on_end, COPY_ENDS)

    def _on_end(self, event: Event) -> None:
        if event is not self._next_event:
            return
        self._advance()
        finish_bytes, _, transfer = heappop(self._heap)
        self._virtual_bytes = max(self._virtual_bytes, finish_bytes)  # rounding must not leave a crumb behind
        transfer.active = False
        self._active -= 1
        self._schedule()
        transfer.done(self._clock.now)
