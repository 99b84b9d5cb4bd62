"""How requests come into an instance: arrival, when the scheduler sees them, and the order in which they wait."""

from __future__ import annotations

from collections import deque

from simserve.contracts import QueueOrder
from simserve.engine.kv_cache import KvCache
from simserve.engine.request import LiveRequest
from simserve.engine.waiting import FcfsQueue, SortedQueue, WaitingQueue

MOST_REORDERED = 128
"""With more waiting requests a cache-dependent order is left as it is (SGLang's rule for its longest-prefix order)."""


class Intake:
    """Requests of an instance that are not admitted.

    inbox        have come since the last plan
    unseen       newcomers that the coming steps have been scheduled without, each with how many of these are left; the least come first
    waiting      the queue that policies see
    steps_ahead  steps that are scheduled already when a request arrives while a step is in progress (InstanceSpec.steps_ahead)
    reorders     whether the order depends on what the prefix cache holds now
    """

    __slots__ = (
        "_kv",
        "_steps_ahead",
        "inbox",
        "reorders",
        "unseen",
        "waiting",
    )

    def __init__(self, order: QueueOrder, steps_ahead: int, kv: KvCache, requeues_last: bool = False) -> None:
        self.inbox: list[LiveRequest] = []
        self.unseen: deque[tuple[LiveRequest, int]] = deque()
        self.waiting: WaitingQueue = FcfsQueue(requeues_last) if order.key is None else SortedQueue(order.key, requeues_last)
        self.reorders = order.dynamic and kv.prefix is not None
        self._steps_ahead = steps_ahead
        self._kv = kv

    def __len__(self) -> int:
        return len(self.waiting) + len(self.unseen) + len(self.inbox)

    def requests(self) -> list[LiveRequest]:
        """All that wait, in order."""
        return [*self.waiting, *(request for request, _ in self.unseen), *self.inbox]

    @property
    def head(self) -> LiveRequest:
        """The first of them."""
        if not self.unseen:
            for request in self.waiting:
                return request
            return self.inbox[0]
        return self.requests()[0]

    def take_in(self, busy: bool = False) -> None:
        """Newcomers queue, in order of (time, row): unseen for a while if a step is in progress and others are scheduled behind it."""
        inbox = self.inbox
        if len(inbox) > 1:
            inbox.sort(key=lambda request: (request.entered_s, request.row))
        for request in inbox:
            if busy and self._steps_ahead:
                self.unseen.append((request, self._steps_ahead))
            else:
                self.waiting.push(request)
        inbox.clear()

    def come_nearer(self, steps: int) -> None:
        """Steps are over: newcomers for whom they were the last ones scheduled without them are seen."""
        unseen = self.unseen
        for _ in range(len(unseen)):
            request, left = unseen.popleft()
            if left > steps:
                unseen.append((request, left - steps))
            else:
                self.waiting.push(request)

    def see_all(self) -> None:
        """Nothing else is to be done: the newcomers are seen."""
        while self.unseen:
            self.waiting.push(self.unseen.popleft()[0])

    def withdraw(self, row: int) -> LiveRequest | None:
        """Takes out the request of a row; None when it does not wait here."""
        for number, request in enumerate(self.inbox):
            if request.row == row:
                return self.inbox.pop(number)
        for number, (request, _) in enumerate(self.unseen):
            if request.row == row:
                del self.unseen[number]
                return request
        found = self.waiting.find(row)
        if found is not None:
            self.waiting.remove(found)
        return found

    def reorder(self) -> None:
        """Brings the waiting queue in order again where the order depends on what is cached now."""
        waiting = self.waiting
        if isinstance(waiting, SortedQueue) and len(waiting) <= MOST_REORDERED:
            for request in list(waiting):
                waiting.remove(request)
                request.cached_estimate = self._kv.look_up(request)
                waiting.give_back(request)

    def give_up_memory(self) -> bool:
        """The last of those that wait with memory, after a load, gives it up, and will load again; False when there is none."""
        for request in reversed(list(self.waiting)):
            if request.held_blocks:
                self._kv.release(request)
                request.lose_kv()
                return True
        return False

    def clear(self) -> list[LiveRequest]:
        """Takes out all that wait, in order. Who has credit (StepPlan.preempt) loses it; it counts as recomputed already."""
        left = self.requests()
        for request in list(self.waiting):
            self.waiting.remove(request)
            if not request.held_blocks:
                request.computed_tokens = 0
        self.inbox.clear()
        self.unseen.clear()
        return left
