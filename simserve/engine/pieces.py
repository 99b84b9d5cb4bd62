"""A long run in pieces: requests come and leave while time passes, so that memory holds those in flight and not the whole run.

Rows are taken from an iterator, some ten thousand at a time, when the last of those before is about to arrive. Then all rows up to the
first that has not ended leave, with their segments and the steps that are over: a `Piece`. Nothing else of the run changes; the requests,
steps and segments of all pieces together are those of the same run recorded whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf
from typing import Any, Protocol, TypeVar

import numpy as np

from simserve.engine.clock import Clock
from simserve.engine.instance import Instance
from simserve.engine.lane import Lane
from simserve.engine.lane_logs import Totals, infos, lane_log
from simserve.engine.noted import Noted
from simserve.engine.recorder import Recorder
from simserve.engine.records import LaneLog, Piece, RunRecords
from simserve.engine.source import Source
from simserve.engine.spec import ClusterSpec, InstanceSpec
from simserve.workload.joining import joined, tables_of
from simserve.workload.requests import RequestTable, Workload


class Run(Protocol):
    """The simulation that is fed and cut."""

    table: RequestTable
    recorder: Recorder
    clock: Clock
    source: Source
    instances: list[Instance]
    total: int
    pieces: InPieces | None

    def append(self, table: RequestTable) -> None: ...
    def drop_first(self, rows: int) -> None: ...


Pieces = Callable[[Piece], None]
"""Called with each piece, in order. What it raises ends the run."""


PIECE_REQUESTS = 1 << 14
"""Requests that are read at a time: measuring as many takes some 50 MB, and what is done once for a piece is nothing beside them."""

LANE_REQUESTS = 64
"""The same for each lane, where that is more: what is done once for each lane takes the time of some requests."""


def whole_only(workload: Workload) -> str:
    """What a workload has that pieces cannot: requests that wait for the end of others. Empty where it has none."""
    if workload.concurrency is not None:
        return "a closed loop of clients"
    if bool(np.any(workload.requests.after >= 0)):
        return "requests that wait for others (column 'after')"
    return ""


class InPieces:
    """Feeds a run from `tables` (each the rows that follow those before, without dependencies) and cuts what has ended into pieces.

    total  requests in all, for the progress; 0 = not known
    """

    def __init__(self, run: Run, tables: Iterator[RequestTable], pieces: Pieces, total: int = 0) -> None:
        self._run = run
        self._tables = tables
        self._pieces = pieces
        self._waiting: list[RequestTable] = []
        """Rows that have not left, from the first of the recorder on."""
        self._lanes = [lane for instance in run.instances for lane in instance.lanes]
        self._held: list[LaneLog] | None = None
        self._ticks = [0] * len(self._lanes)
        """The number of the first tick of the steps that are held of each lane."""
        self.instances = infos(run.instances)
        self.totals = Totals(len(self._lanes))
        self.end_s = 0.0
        self.preemptions = self.reread_tokens = 0.0
        run.total = total
        run.source.refill = self._refill

    def _refill(self) -> None:
        """The last row that has been read is about to arrive: others are read, and what has ended leaves."""
        self._cut(self._run.recorder.status.unended())
        table = next(self._tables, None)
        if table is None:
            self._run.source.refill = None
            return
        self._waiting.append(table)
        self._run.append(table)

    def finish(self, cut_s: float | None) -> None:
        """The run is over, or was cut at `cut_s`: what is left leaves."""
        run = self._run
        self.end_s = max(self.end_s, cut_s or 0.0)
        self._cut(len(run.recorder.status), over=True)
        for table in self._tables:  # of a run that was cut: they have not come
            self._waiting.append(table)
            run.append(table)
            self._cut(len(run.recorder.status), over=True)

    def _cut(self, row: int, over: bool = False) -> None:
        """All rows before `row` have ended, or the run is over: they leave, and the steps that are over."""
        run, now = self._run, self._run.clock.now
        first_row = run.recorder.status.first
        for lane in self._lanes:
            lane.runner.settle()
        fresh = tuple(_taken(lane) for lane in self._lanes)
        self.totals.add(fresh)
        held = fresh if self._held is None else [old.followed_by(new) for old, new in zip(self._held, fresh, strict=True)]
        rows = row - first_row
        columns, noted = run.recorder.take(rows)
        table = self._leave(rows)
        run.drop_first(rows)
        emissions = _from(noted, first_row, self._ticks).emissions(held)
        known_s = min(now, float(np.nanmin(run.recorder.released_s.rest(), initial=now)))
        begun_s = tuple(inf if over else lane.plan.start_s if lane.busy else now for lane in self._lanes)
        finished = columns.finish_s[np.isfinite(columns.finish_s)]
        ends = [float(lane.step_end_s[-1]) for lane in fresh if len(lane.step_end_s)]
        self.end_s = max(self.end_s, *ends, float(finished.max(initial=0.0)))
        self.preemptions += float(columns.preemptions.sum())
        self.reread_tokens += float(columns.reread_tokens.sum())
        records = RunRecords(table, columns, tuple(held), emissions, self.instances, self.end_s if over else max(now, self.end_s))
        self._held = self._still_needed(held)
        if rows or any(ends):
            self._pieces(Piece(first_row, records, fresh, known_s, begun_s))

    def _leave(self, rows: int) -> RequestTable:
        """The first rows of those that wait, which leave."""
        leaving: list[RequestTable] = []
        while rows and self._waiting:
            table = self._waiting.pop(0)
            if len(table) > rows:
                self._waiting.insert(0, table.part(rows, len(table)))
                table = table.part(0, rows)
            leaving.append(table)
            rows -= len(table)
        return joined(leaving) if leaving else self._run.table

    def _still_needed(self, held: list[LaneLog] | tuple[LaneLog, ...]) -> list[LaneLog]:
        """The steps in which a request decoded that has not left."""
        earliest = self._run.recorder.earliest_ticks(len(self._lanes))
        kept = []
        for number, (lane, log) in enumerate(zip(self._lanes, held, strict=True)):
            group = lane.batch.group
            ticks = [request.first_tick for request in group]
            noted = earliest[number]
            first = min([group.tick, *ticks, *([] if noted is None else [noted])]) - self._ticks[number]
            before = np.cumsum(np.where(log.span_decode_requests > 0, log.span_steps, 0))
            span = int(np.searchsorted(before, first, side="right"))
            kept.append(log.since(span))
            self._ticks[number] += int(before[span - 1]) if span else 0
        return kept


def _taken(lane: Lane) -> LaneLog:
    """The steps of a lane that are over and have been handed out; they are no longer there."""
    steps = lane.steps_over
    log = lane_log(lane, np.array(lane.step_end_s[:steps]))
    lane.drop_first(steps)
    return log


def _from(noted: Noted, first_row: int, ticks: list[int]) -> Noted:
    """The segments with rows that count from the first, and ticks that count from those of their lanes."""
    segments = noted.segments.copy()
    segments[:, 0] -= first_row
    segments[:, 2:] -= np.array(ticks, dtype=np.int64)[segments[:, 1]][:, None]
    return noted._replace(segments=segments)


AnyRun = TypeVar("AnyRun", bound=Run)


def in_pieces(
    kind: Callable[..., AnyRun],
    workload: Workload,
    instances: Sequence[InstanceSpec],
    cluster: ClusterSpec,
    pieces: Pieces,
    piece_requests: int,
    **how: Any,
) -> AnyRun:
    """A simulation of a `kind`, made as it is with `how`, whose requests come and leave in pieces."""
    table = workload.requests
    contents = None if table.prefix is None else table.prefix.chained(table.content_owners())
    nothing = replace(workload, requests=table.part(0, 0), tables=None)
    run = kind(nothing, instances, cluster, **how, contents=contents, sliding=True)
    lanes = sum(len(instance.lanes) for instance in run.instances)
    rows = max(piece_requests, LANE_REQUESTS * (lanes - 1))
    tables = tables_of(table, rows) if workload.tables is None else workload.tables(rows)
    run.pieces = InPieces(run, tables, pieces, len(workload))
    return run
