"""Runs a workload on instances: the entry point of the engine. Requests that come while a run goes on: `live.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

from simserve.compiled import mypyc_attr
from simserve.contracts import Refusal, capable
from simserve.engine.asked import Asked
from simserve.engine.cancellation import Cancellations
from simserve.engine.clock import Clock
from simserve.engine.cluster import Cluster
from simserve.engine.collection import collected, rest_of
from simserve.engine.deadlock import who_waits
from simserve.engine.events import REQUEST_ENTERS
from simserve.engine.instance import Instance
from simserve.engine.instance_state import InstanceState
from simserve.engine.lane import Lane
from simserve.engine.link import Link
from simserve.engine.pieces import PIECE_REQUESTS, InPieces, Pieces, in_pieces, whole_only
from simserve.engine.prefix_cache import Contents
from simserve.engine.readonly import ReadOnlyError, blame
from simserve.engine.recorder import GAVE_UP, Recorder
from simserve.engine.records import EndedRequest, RunRecords, Status
from simserve.engine.request import LiveRequest
from simserve.engine.signals import Signals
from simserve.engine.source import Source
from simserve.engine.spec import ClusterSpec, InstanceSpec
from simserve.engine.timers import PATIENCE
from simserve.errors import ConfigError, PolicyError
from simserve.workload.requests import RequestTable, Workload

FAILED_IN_TRACE = "failed in the trace"
OVER_MODEL = "prompt exceeds the model's context"
OVER_CACHE = "prompt exceeds the KV cache"
TRUNCATED = "stopped at the context limit"
DIED = "its instance died"

PROGRESS_EVERY = 256

Progress = Callable[[int, int, float], None]
"""Called now and then with (requests ended, requests in all, simulated seconds)."""

Sink = Callable[[EndedRequest], None]
"""Called with each request that has ended."""


def simulate(
    workload: Workload,
    instances: Sequence[InstanceSpec],
    cluster: ClusterSpec | None = None,
    *,
    fast_forward: bool = True,
    check: bool = False,
    until_s: float | None = None,
    progress: Progress | None = None,
    sink: Sink | None = None,
    pieces: Pieces | None = None,
    piece_requests: int = PIECE_REQUESTS,
) -> RunRecords:
    """Serves the workload and returns what happened.

    cluster       routers, controllers, failures; default: round robin and nothing else
    fast_forward  run steps with an unchanged plan as one span. False steps one by one; the records are identical (I7)
    check         also verify the invariants of docs/invariants.md while running and afterwards (slower); raises InvariantError
    until_s       stop at this simulated time; requests still in the system are UNFINISHED
    sink          called with what has become of each request, once, when it ends, in that order; what it raises ends the run
    pieces        called with the records of requests that have ended and steps that are over, now and then (`Piece`): memory then holds
                  what is in flight. What is returned has no requests, no steps and no tokens, but the counters of the whole
    piece_requests  about so many requests to a piece

    Raises PolicyError when a policy breaks a rule, ConfigError for impossible instances, and for pieces of a workload in which requests
    wait for others (a closed loop, `after`).
    """
    if until_s is not None and not until_s > 0:
        raise ConfigError(f"until_s must be a time after the start, in seconds; found {until_s}")
    if not instances:
        raise ConfigError("a run needs at least one instance")
    cluster = cluster or ClusterSpec()
    if pieces is not None and (problem := whole_only(workload)):
        raise ConfigError(f"a run in pieces cannot have {problem}")
    how: dict[str, Any] = {"fast_forward": fast_forward, "progress": progress, "sink": sink}
    if check:
        from simserve.engine.check import simulate_checked

        return simulate_checked(workload, instances, cluster, until_s=until_s, pieces=pieces, piece_requests=piece_requests, **how)
    if pieces is not None:
        return in_pieces(Simulation, workload, instances, cluster, pieces, piece_requests, **how).run(until_s)
    return Simulation(workload, instances, cluster, **how).run(until_s)


@mypyc_attr(allow_interpreted_subclasses=True)
class Simulation:
    """One run: clock, instances, source and recorder wired together."""

    def __init__(
        self,
        workload: Workload,
        specs: Sequence[InstanceSpec],
        cluster: ClusterSpec,
        fast_forward: bool,
        progress: Progress | None = None,
        sink: Sink | None = None,
        open_ended: bool = False,
        contents: Contents | None = None,
        sliding: bool = False,
    ) -> None:
        """`open_ended`: rows will be appended, and their `contents` grow (see `LiveRun`). `sliding`: rows will be appended and leave when
        they have ended (see `InPieces`)."""
        self.table: RequestTable = workload.requests
        self.clock = Clock()
        self.recorder = Recorder(len(self.table), sliding)

        self._asked = asked = Asked(self.table, sliding)
        self.final_tokens = asked.final
        self._has_stated = bool(asked.stated)
        self.total = 0
        """Requests in all, where more are known to come than have been read."""
        self.pieces: InPieces | None = None
        self._progress = progress
        self.request_kind: type[LiveRequest] = LiveRequest
        self._last_progress = 0
        self._released = 0
        self.coming: dict[int, tuple[LiveRequest, Instance]] = {}
        """Requests on their way to their instance, and that, by row."""
        self.instances: list[Instance] = []
        signals = Signals(len(specs))
        uplinks = _uplinks(specs, self.clock)
        # Ids that name a block alone become keys of a block, all before it and whose it is, as prefix caches have them.
        self._contents: Contents | None = contents
        if self.table.prefix is not None:
            self._contents = self.table.prefix.chained(self.table.content_owners())
        lanes = 0
        for index, spec in enumerate(specs):
            instance = Instance(
                *(spec, index, lanes, self.clock, self.recorder, self.final_tokens, self, fast_forward, signals),
                uplink=uplinks.get(spec.node) if spec.uplink is not None else None,
                contents=self._contents,
            )
            lanes += len(instance.lanes)
            self.instances.append(instance)
        self.cluster = Cluster(cluster, self.instances, signals, self.clock, self)
        decoders = self.cluster.decode.members
        self._decode_limit = min(instance.limit_tokens for instance in decoders) if decoders else None
        # A request that can end up on any of several instances must fit on each: one that has lost a mixed instance may be prefilled again
        # for a decode instance, which must not find it too long for the tokens it has got.
        moves = bool(cluster.controllers or cluster.failures)
        all_instances = (*self.cluster.entry.members, *decoders)
        self._entry_limit = min(instance.limit_tokens for instance in all_instances) if moves else None
        self._reads_contents = any(instance.kv.prefix is not None for instance in self.instances) or bool(
            self._contents is not None and capable(cluster.router, "reads_contents")
        )
        self.source = Source(workload, self.clock, self, open_ended, sliding)
        self.cancellations = Cancellations(self)
        self._sink = sink
        self.cut_s: float | None = None
        """When the run was cut with requests left: its end, whatever happened last before."""
        self.ended: Callable[[Iterable[int], float], None] = self.source.ended
        """Called with the rows of requests that have ended, in order: what waited for them is released."""
        self._watched = sink is not None or self._asked.patience_s is not None or open_ended
        if self._watched:
            self.ended = self._note_ends

    def run(self, until_s: float | None = None) -> RunRecords:
        """Lets time pass until everything has ended or `until_s`."""
        self.source.start()
        self.serve(until_s)
        return self.records() if self.pieces is None else rest_of(self, self.pieces)

    def serve(self, until_s: float | None = None) -> None:
        """Lets time pass until everything has ended or `until_s`."""
        self.clock.run(until=until_s)
        rows = len(self.recorder.status)
        if until_s is not None:
            self._cut(until_s)
            self.cut_s = until_s if self.recorder.ended < rows + self.source.more_to_come else None
        elif self.recorder.ended < rows:
            left = rows - self.recorder.ended
            raise PolicyError(f"deadlock: no event is to come and {left} requests have not ended: {who_waits(self.cluster)} (invariant I1)")
        if self._progress is not None:
            self._progress(self.recorder.ended, max(rows, self.total), self.clock.now)

    def append(self, table: RequestTable) -> None:
        """More rows, whose `after` are rows of the run; `LiveRun.append` has checked them."""
        self.recorder.append(len(table))
        self._asked.append(table, self.source.open_ended)
        self._has_stated = bool(self._asked.stated)
        self.source.append(table, self.end_of)

    def drop_first(self, rows: int) -> None:
        """The next rows of a sliding run have ended, and have been recorded."""
        self._asked.drop_first(rows)
        self.source.drop_first(rows)

    def end_of(self, row: int) -> float | None:
        """When a row has ended, seconds; None if it has not."""
        return self.recorder.finish_s[row] if self.recorder.status[row] else None

    def request_due(self, row: int, now: float) -> None:
        """A request enters the system at `now`."""
        recorder = self.recorder
        recorder.released_s[row] = now
        final = self.final_tokens[row]
        if final <= 0:
            self._released += 1
            recorder.rejected(row, now, FAILED_IN_TRACE, Status.FAILED)
            self.ended((row,), now)
            return
        self._released += 1
        # An unsatisfiable limit must not be the router's concern: what a request may not reach anywhere is cut or refused when it is
        # placed.
        asked = self._asked
        place = row - asked.first
        stated = asked.max_output[place]
        if stated < final:  # the trace contradicts itself: a client's limit below what was generated says nothing
            stated = -1
        request = self.request_kind(row, now, asked.prompt[place] or 1, asked.priority[place], stated, asked.session[place])
        if self._has_stated:
            request.stated = asked.stated
        if self._reads_contents:
            contents = self._contents
            assert contents is not None
            # Of what it will generate the ids are not known to any policy.
            request.prefix_ids = contents.first(row, request.prompt_tokens // (contents.block_tokens if contents.outputs else 1))
        if asked.patience_s is not None and asked.patience_s[row] < inf:
            self.cancellations.at(row, now + asked.patience_s[row])
        self._route(request, now)

    def cancel(self, row: int) -> None:
        """The client of a row gives up now, whether it has sent the request or not. No effect on one that has ended."""
        self.cancellations.at(row, self.clock.now)

    def never_sent(self, row: int, now: float) -> None:
        """A client gives up before it sends a request."""
        self._released += 1
        self.source.drop(row)
        self.recorder.rejected(row, now, GAVE_UP, Status.CANCELLED)
        self.ended((row,), now)

    def _note_ends(self, rows: Iterable[int], now: float) -> None:
        """Requests have ended in a run in which a listener wants to know."""
        rows = list(rows)
        for row in rows:
            self.cancellations.ended(row)
            if self._sink is not None:
                self._sink(self.recorder.ended_request(row))
        self.source.ended(rows, now)

    def _route(self, request: LiveRequest, now: float) -> None:
        place = self.cluster.route(request, now)
        if place is not None:
            self._place(request, place)

    def instance_available(self, now: float) -> None:
        """An instance takes requests, or has space: those that are held are routed."""
        if self.cluster.held:
            self.cluster.release_held(now, self._place)

    def instance_empty(self, instance: Instance) -> None:
        """A draining instance has nothing left: it stops."""
        self.cluster.set_state(instance, InstanceState.OFF)

    def span_ended(self, lane: Lane) -> None:
        """Of interest to checked runs only."""

    def _place(self, request: LiveRequest, place: Instance | Refusal) -> None:
        """The router has spoken: the request is on its way to an instance, or ends."""
        now, row, prompt = self.clock.agenda.now, request.row, request.prompt_tokens
        if isinstance(place, Refusal):
            self._refuse(request, place.reason)
            return
        limit = place.limit_tokens if self._entry_limit is None else self._entry_limit
        if place.kv_transfers is not None and self._decode_limit is not None:
            limit = min(limit, self._decode_limit)
        final = self.final_tokens[row]
        if prompt + final > limit:
            if prompt >= limit:
                longest = place.spec.max_model_len
                self._refuse(request, OVER_MODEL if longest is not None and prompt >= longest else OVER_CACHE)
                return
            self.final_tokens[row] = limit - prompt
            self.recorder.note(row, TRUNCATED)
        request = place.seen(request)
        enters_s = place.front_end.passed_s(now, prompt)
        place.expect(request)
        if self._watched:
            self.cancellations.sent(row, place)
        request.entered_s = enters_s
        if enters_s > now:
            self.coming[row] = request, place
            self.clock.at(enters_s, lambda event: self._enter(request, place), REQUEST_ENTERS)
        else:
            place.submit(request)

    def _enter(self, request: LiveRequest, place: Instance) -> None:
        """A request reaches its instance, which may have died meanwhile, unless its client has given up."""
        if self.coming.pop(request.row, None) is None:
            return
        if place.state is InstanceState.UP or place.state is InstanceState.DRAINING:
            place.submit(request)
        else:
            place.forget(request)
            self._route(request, self.clock.now)

    def _refuse(self, request: LiveRequest, reason: str) -> None:
        self.recorder.rejected(request.row, self.clock.now, reason)
        self.ended((request.row,), self.clock.now)

    def request_lost(self, request: LiveRequest, instance: Instance, rule: str, now: float) -> None:
        """A request's instance has died."""
        leaving = self.cancellations.is_leaving(request.row)
        if leaving or rule == "fail":
            if leaving:
                self.cancellations.record(request, -1)
            else:
                self.recorder.failed(request, now, DIED)
            self._tell([request], instance, now)
            self.ended((request.row,), now)
            return
        request.losses += 1
        if request.losses > PATIENCE:
            raise ConfigError(
                f"failures: request {request.row} has lost its instance {PATIENCE} times (rule '{rule}'): instances die faster than it "
                "can be served, and the run would never end; a longer mtbf_s or rule 'fail' lets it end"
            )
        if rule == "retry":
            self.recorder.void(request.row)
            request.start_over()
        self._route(request, now)

    def requests_left(self) -> tuple[int, int]:
        """Requests in the system, and requests that have not ended, those to come included."""
        ended = self.recorder.ended
        return self._released - ended, len(self.recorder.status) + self.source.more_to_come - ended

    def _cut(self, now: float) -> None:
        """The run is cut: what every request in the system has got so far, wherever it is: in an instance, between two, on its way to
        one or held."""
        for instance in self.instances:
            for lane in instance.lanes:
                lane.stop(now)
        for instance in self.instances:
            self._leave_unfinished(instance)
        for request in (*self.cluster.held, *(request for request, _ in self.coming.values())):
            self.recorder.unfinished(request, -1)
        kv_transfers = self.cluster.kv_transfers
        for move in kv_transfers.moves.values() if kv_transfers is not None else ():
            if move.prefilled:
                self.recorder.unfinished(move.request, move.source.index)
        for migration in self.cluster.migrations.under_way.values():
            if migration.stopped:
                self.recorder.unfinished(migration.request, migration.source.index)

    def requests_ended(self, requests: list[LiveRequest], instance: Instance, now: float) -> None:
        """Requests have ended at an instance."""
        self._tell(requests, instance, now)
        if self._progress is not None and self.recorder.ended - self._last_progress >= PROGRESS_EVERY:
            self._last_progress = self.recorder.ended
            self._progress(self.recorder.ended, max(len(self.recorder.status), self.total), now)
        self.ended(sorted([request.row for request in requests]), now)
        self.cluster.ask_again(now)

    def _tell(self, requests: list[LiveRequest], instance: Instance, now: float) -> None:
        """Routers and controllers hear of ends."""
        for policy in self.cluster.hear_ends:
            try:
                policy.ended(tuple(requests), instance.index, now)
            except ReadOnlyError as problem:
                blame(f"policy '{type(policy).__name__}'", problem)

    def _leave_unfinished(self, instance: Instance) -> None:
        """The run is cut: the requests in the instance."""
        left = instance.intake.requests() + instance.loads.requests()
        for lane in instance.lanes:
            left += lane.batch.crash()
        for request in left:
            self.recorder.unfinished(request, instance.index)

    def records(self) -> RunRecords:
        """What has happened."""
        return collected(self)


def _uplinks(specs: Sequence[InstanceSpec], clock: Clock) -> dict[int, Link]:
    """One link out of each node, which its instances share."""
    found: dict[int, Link] = {}
    for spec in specs:
        if spec.uplink is not None and spec.node not in found:
            found[spec.node] = Link(clock, spec.uplink.bytes_per_s, spec.uplink.latency_s, spec.uplink.per_message_s)
    return found
