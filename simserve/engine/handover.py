"""Disaggregated serving: requests move from the instance that prefilled them to one that decodes them (DistServe, arXiv 2401.09670).

The decode instance pulls: a request's KV stays in the memory of the prefill instance until the decode instance has room for it, so a
full decode pool pushes back on the prefill pool. The copy leaves through the prefill instance's link, which its copies share.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from simserve.engine.instance import Instance
from simserve.engine.request import LiveRequest, State

Choose = Callable[[Sequence[Instance]], Instance]


class Handover:
    """The mechanics between a pool of prefill instances and a pool of decode instances.

    `choose` picks the decode instance of a request as soon as its prefill has ended.
    """

    def __init__(self, decoders: Sequence[Instance], choose: Choose) -> None:
        self._decoders = decoders
        self._choose = choose
        self._queues: dict[int, deque[tuple[Instance, LiveRequest]]] = {instance.index: deque() for instance in decoders}
        self.moving: dict[int, tuple[Instance, LiveRequest]] = {}
        """Requests between two instances, by row, with the one they come from."""
        self.moved_tokens = 0

    def prefilled(self, source: Instance, request: LiveRequest, now: float) -> None:
        """The request has emitted its first token at `source` and needs a place to decode."""
        destination = self._choose(self._decoders)
        request.state = State.MOVING
        self.moving[request.row] = (source, request)
        source.elsewhere[request.row] = request.held_blocks
        source.outstanding -= 1
        destination.outstanding += 1
        self._queues[destination.index].append((source, request))
        if destination.is_busy:
            destination.poke()  # it looks again at the end of its step, when it knows its memory
        else:
            self.pull(destination)

    def pull(self, destination: Instance) -> None:
        """Starts the copies that the destination has memory for, in order. Called between its steps, whenever its memory may have grown."""
        queue = self._queues[destination.index]
        kv = destination.kv
        while queue:
            source, request = queue[0]
            blocks = kv.blocks(request.computed_tokens + 1)
            if kv.free_blocks - blocks < kv.watermark_blocks:
                return
            queue.popleft()
            kv.free_blocks -= blocks
            destination.elsewhere[request.row] = blocks
            self._copy(source, destination, request, blocks)

    def _copy(self, source: Instance, destination: Instance, request: LiveRequest, blocks: int) -> None:
        link, spec = source.link, source.spec.link
        assert link is not None and spec is not None
        size_bytes = request.computed_tokens * spec.kv_bytes_per_token
        messages = 1 if spec.message_bytes is None else max(1, math.ceil(size_bytes / spec.message_bytes))
        self.moved_tokens += request.computed_tokens

        def arrived(now: float) -> None:
            del source.elsewhere[request.row]
            source.lanes[0].give_back(request)
            source.poke()
            del destination.elsewhere[request.row], self.moving[request.row]
            request.held_blocks = blocks
            destination.land(request)

        link.start(size_bytes, arrived, messages)
