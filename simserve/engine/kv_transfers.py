"""Disaggregated serving: requests move from the instance that prefilled them to one that decodes them (DistServe, arXiv 2401.09670).

Pull: a request's KV stays in the memory of the prefill instance until the decode instance has room for it, so a full decode pool pushes
back on the prefill pool. Push: the decode instance is chosen and its memory reserved when the prefill starts; the copy then begins with
the end of the prefill, or, layer by layer, with the prefill itself (Splitwise, arXiv 2311.18677, section 4.3). The copy leaves through
the link of the prefill instance or of its node, which other copies share.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from simserve.engine.instance import Instance
from simserve.engine.link import Link, Transfer
from simserve.engine.request import LiveRequest, State

Choose = Callable[[LiveRequest, Instance], Instance | None]


class Move:
    """A request between two instances. `destination` is None while no decode instance takes requests."""

    __slots__ = ("destination", "prefilled", "request", "reserved_s", "source", "transfer")

    def __init__(self, source: Instance, request: LiveRequest) -> None:
        self.source = source
        self.request = request
        self.destination: Instance | None = None
        self.prefilled = False
        self.reserved_s = -1.0
        self.transfer: tuple[Link, Transfer] | None = None


class KvTransfers:
    """The mechanics between prefill and decode instances. `choose` picks the decode instance of a request that an instance has
    prefilled; it may be that instance itself.

    may_stay    a request may go on where it was prefilled also if that is a prefill instance. One that may stay leaves only for an
                instance that has memory for it at this moment: two instances that wait for each other's memory would wait for ever
    layerwise   each layer's KV leaves as soon as it is computed; otherwise the copy begins with the end of the prefill
    """

    def __init__(self, choose: Choose, push: bool, layerwise: bool, may_stay: bool) -> None:
        self._choose = choose
        self._push = push
        self._layerwise = layerwise
        self._may_stay = may_stay
        self._queues: defaultdict[int, deque[Move]] = defaultdict(deque)
        """By number of the decode instance: requests that wait for its memory."""
        self._unassigned: list[Move] = []
        self.moves: dict[int, Move] = {}
        """By row of the request."""
        self.moved_tokens = 0

    def admitted(self, source: Instance, request: LiveRequest) -> None:
        """The prefill of a request starts (or starts again) at `source`."""
        if self._push and source.role == "prefill" and request.row not in self.moves:
            self._send(Move(source, request))

    def leaves(self, request: LiveRequest) -> None:
        """A request has ended or lost its sequence slot before it moved: what it had reserved elsewhere is given back. If one that waits
        here kept it, requests that are done here might wait for that memory while it waits for theirs."""
        move = self.moves.pop(request.row, None) if self._push else None
        if move is not None:
            self._withdraw(move)

    def prefilled(self, source: Instance, request: LiveRequest) -> bool:
        """The request has emitted its first token at `source` and needs a place to decode. False: it stays where it is."""
        destination = None
        if request.row not in self.moves:
            destination = self._choose(request, source)
            may_stay = self._may_stay or source.role == "decode"
            if destination is source or (may_stay and (destination is None or not _has_room(destination, request))):
                return False
        request.state = State.MOVING
        source.set_aside(request)
        source.forget(request)
        move = self.moves.get(request.row)
        if move is None:
            move = Move(source, request)
            move.prefilled = True
            self._send_to(move, destination)
        else:
            move.prefilled = True
            if move.reserved_s >= 0:
                self._copy(move)
        return True

    def _send(self, move: Move) -> None:
        """Chooses where the request decodes, and asks for memory there."""
        destination = self._choose(move.request, move.source)
        if destination is not move.source:
            self._send_to(move, destination)
        elif move.prefilled:  # its destination has died, and it may as well go on where it is
            self.moves.pop(move.request.row, None)
            move.source.take_back(move.request)

    def _send_to(self, move: Move, destination: Instance | None) -> None:
        self.moves[move.request.row] = move
        move.destination = destination
        if destination is None:
            self._unassigned.append(move)
            return
        destination.expect(move.request)
        if (self._may_stay or move.source.role == "decode") and _has_room(destination, move.request):
            self._reserve(destination, move)
            destination.runner.poke()
            return
        self._queues[destination.index].append(move)
        if destination.runner.busy:
            destination.runner.poke()  # it looks again at the end of its step, when it knows its memory
        else:
            self.pull(destination)

    @property
    def unassigned(self) -> int:
        """Requests that no decode instance takes."""
        return len(self._unassigned)

    def waiting_for_room(self) -> list[tuple[int, int, int]]:
        """Decode instances that lack memory for requests on their way: (number, requests, blocks that the first of them takes)."""
        return [
            (move.destination.index, len(queue), move.destination.kv.arriving(_table(move.destination, move.request)))
            for queue in self._queues.values()
            if queue and (move := queue[0]).destination is not None
        ]

    def waits_for(self, number: int) -> bool:
        """Whether requests on their way wait for memory of a decode instance."""
        return bool(self._queues.get(number))

    def retry(self) -> None:
        """A decode instance has become available: the requests without one choose again."""
        waiting, self._unassigned = self._unassigned, []
        for move in waiting:
            self._send(move)

    def pull(self, destination: Instance) -> None:
        """Takes memory for requests on their way, in order. Called between the destination's steps, whenever its memory may have grown."""
        queue = self._queues.get(destination.index)
        while queue:
            move = queue[0]
            if not destination.kv.fits(destination.kv.arriving(_table(destination, move.request))):
                return
            queue.popleft()
            self._reserve(destination, move)

    def _reserve(self, destination: Instance, move: Move) -> None:
        """Takes the memory; a request that has been prefilled leaves at once."""
        destination.runner.settle()
        destination.kv.reserve(move.request.row, _table(destination, move.request))
        move.reserved_s = destination.clock.now
        if move.prefilled:
            self._copy(move)

    def _copy(self, move: Move) -> None:
        """The request's KV leaves; what a layer-wise push has sent during the prefill is there already, the last layer never is."""
        assert move.destination is not None
        link, spec = move.source.path_to(move.destination)
        tokens = move.request.computed_tokens
        size_bytes = float(tokens * spec.kv_bytes_per_token + spec.beside_bytes(tokens))
        if self._layerwise:
            overlap_s = move.source.clock.now - max(move.reserved_s, move.request.scheduled_s)
            size_bytes = max(size_bytes / spec.layers, size_bytes - spec.bytes_per_s * overlap_s)
        self.moved_tokens += tokens
        move.transfer = (link, link.start(size_bytes, lambda now: self._arrived(move), spec.messages(size_bytes)))

    def _arrived(self, move: Move) -> None:
        request, destination = move.request, move.destination
        assert destination is not None
        del self.moves[request.row]
        move.source.release_set_aside(request)
        request = destination.seen(request)
        destination.kv.receive(request)
        destination.land(request)

    def _withdraw(self, move: Move) -> None:
        """Takes back what a move asks of its destination: its place in the queue, its memory, its copy under way."""
        if move.transfer is not None:
            move.transfer[0].cancel(move.transfer[1])
            move.transfer = None
        if move.destination is None:
            self._unassigned.remove(move)
            return
        if move.reserved_s < 0:
            self._queues[move.destination.index].remove(move)
            move.destination.runner.poke()  # it may have kept others waiting
        move.destination.unreserve(move.request.row)
        move.destination.forget(move.request)
        move.destination, move.reserved_s = None, -1.0

    def give_up(self, move: Move) -> None:
        """A client has given up while its request is between two instances."""
        del self.moves[move.request.row]
        self._withdraw(move)
        move.source.release_set_aside(move.request)

    def crash(self, instance: Instance) -> list[LiveRequest]:
        """An instance dies. Returns the requests whose KV it held for others; those on their way to it choose again."""
        lost: list[LiveRequest] = []
        for row, move in sorted(self.moves.items()):
            if move.source is instance:
                del self.moves[row]
                self._withdraw(move)
                if move.prefilled:
                    move.request.lose_kv()
                    lost.append(move.request)
        again = [move for _, move in sorted(self.moves.items()) if move.destination is instance]
        for move in again:
            self._withdraw(move)
        for move in again:
            self._send(move)
        return lost


def _table(destination: Instance, request: LiveRequest) -> int:
    """Length of the block table of a request at its destination: of what it has, or will have, computed, and of its next token."""
    return destination.kv.table(max(request.computed_tokens, request.target_tokens) + 1)


def _has_room(destination: Instance, request: LiveRequest) -> bool:
    """Whether the destination has memory for the request at this moment, in the middle of its steps."""
    return destination.kv.fits(destination.kv.arriving(_table(destination, request)), destination.runner.grown_blocks)
