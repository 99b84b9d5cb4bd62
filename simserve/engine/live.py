"""A run to which requests are appended while it goes on: for clients that react, and for workloads too long to be held at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from simserve.engine.growing_contents import GrowingContents
from simserve.engine.records import RunRecords
from simserve.engine.simulate import Simulation, Sink
from simserve.engine.spec import ClusterSpec, InstanceSpec
from simserve.errors import ConfigError
from simserve.workload.joining import joined
from simserve.workload.requests import I64, RequestTable, Workload


class LiveRun:
    """Instances that serve what is appended, in simulated time that goes on as far as it is told to.

    The same requests appended in any pieces, each before its time, leave the same records as `simulate` of all of them. A client that
    reacts is a sink that appends and cancels; what it does takes effect at the instant at which it is told.

        run = LiveRun(instances, sink=client.hears)
        run.append(requests)
        run.advance(60.0)
        run.cancel(7)
        records = run.close()

    instances, cluster, fast_forward, sink   as in `simulate`
    max_concurrency, think_s   as in Workload: open arrivals under a bound of the client
    prefix_block_tokens        tokens of a block of the contents that requests will have; 0 = contents are not told
    prefix_outputs             the contents go on into the outputs (`PrefixBlocks.outputs`)
    """

    def __init__(
        self,
        instances: Sequence[InstanceSpec],
        cluster: ClusterSpec | None = None,
        *,
        sink: Sink | None = None,
        fast_forward: bool = True,
        max_concurrency: int | None = None,
        think_s: float = 0.0,
        prefix_block_tokens: int = 0,
        prefix_outputs: bool = False,
    ) -> None:
        if not instances:
            raise ConfigError("a run needs at least one instance")
        none = np.empty(0, dtype=np.int64)
        nothing = Workload(RequestTable.build(np.empty(0), none, none), think_s=think_s, max_concurrency=max_concurrency)
        self._contents = GrowingContents(prefix_block_tokens, prefix_outputs) if prefix_block_tokens else None
        self._run = Simulation(
            nothing, instances, cluster or ClusterSpec(), fast_forward, sink=sink, open_ended=True, contents=self._contents
        )
        self._pieces: list[RequestTable] = []
        self._last_arrival_s = 0.0
        self._closed = False
        self._run.source.start()

    def __len__(self) -> int:
        """Requests appended so far."""
        return len(self._run.recorder.status)

    @property
    def now(self) -> float:
        """Simulated seconds."""
        return self._run.clock.now

    @property
    def ended(self) -> int:
        """Requests that have ended so far."""
        return self._run.recorder.ended

    def append(self, table: RequestTable, *, after: I64 | None = None, attempt_of: I64 | None = None) -> range:
        """Appends the rows of a table; returns their numbers in the run. Arrival times are seconds of the run's time.

        after, attempt_of  the columns of these names as numbers of rows of the run, so that rows may name earlier pieces (shape (rows,),
                           -1 = none). By default the table's own columns, in which its first row is number 0 (as in `also_after`)

        Raises ValueError for rows whose time has passed, that are not in order of time after those appended before, or that name a row
        that is not an earlier one.
        """
        if self._closed:
            raise ValueError("the run is closed: nothing can be appended")
        first, rows = len(self), len(table)
        numbers = np.arange(first, first + rows)
        after = _of_the_run(table.after if after is None else after, 0 if after is not None else first)
        attempts = table.column("attempt_of") if attempt_of is None else attempt_of
        attempts = None if attempts is None else _of_the_run(attempts, 0 if attempt_of is not None else first)
        also = table.also_after
        also = None if also is None else replace(also, rows=also.rows + first)
        for name, column in (("after", after), ("attempt_of", attempts)):
            if column is not None and (len(column) != rows or bool(np.any(column >= numbers))):
                raise ValueError(f"{name}: each of the {rows} rows appended names an earlier row of the run, or -1")
        own_s = table.arrival_s[after < 0]
        if len(own_s) and (bool(np.any(np.diff(own_s) < 0)) or own_s[0] < max(self._last_arrival_s, self.now)):
            raise ValueError(
                f"a row appended arrives at {own_s.min():g} s; it is {self.now:g} s, and rows up to {self._last_arrival_s:g} s are there"
            )
        for row in np.flatnonzero(after >= 0).tolist():
            parents = [int(after[row]), *(() if also is None else also.of(row))]
            ends_s = [self._run.end_of(parent) if parent < first else None for parent in parents]
            due_s = max(end_s for end_s in ends_s if end_s is not None) + table.arrival_s[row] if None not in ends_s else inf
            if due_s < self.now:
                raise ValueError(f"row {first + row} is due at {due_s:g} s, after row {parents[0]}; it is {self.now:g} s: too late")
        if self._contents is not None:
            self._contents.append(table, first)
        others = {name: values for name, values in table.others.items() if name != "attempt_of"}
        if attempts is not None and bool(np.any(attempts >= 0)):
            others["attempt_of"] = attempts
        piece = replace(table, after=after, also_after=also, others=others)
        self._pieces.append(piece)
        if len(own_s):
            self._last_arrival_s = float(own_s[-1])
        self._run.append(piece)
        return range(first, first + rows)

    def cancel(self, row: int) -> None:
        """The client of a row gives up now, wherever the request is; one that has ended, or ends first, stays as it is. Takes effect when
        time goes on. Raises ValueError for a row that is not there."""
        if not 0 <= row < len(self):
            raise ValueError(f"there is no row {row}: {len(self)} have been appended")
        self._run.cancel(row)

    def advance(self, until_s: float) -> int:
        """Lets time pass to `until_s` (seconds, finite): everything before it happens, nothing at it. Returns how many requests have ended
        so far. Raises PolicyError and what the sink raises."""
        if not self.now <= until_s < float("inf"):
            raise ValueError(f"time goes on to a finite time from {self.now:g} s on, not to {until_s:g} s")
        self._run.clock.run_before(until_s)
        return self.ended

    def close(self) -> RunRecords:
        """Nothing more will be appended: serves what is left, and returns what happened."""
        if self._closed:
            raise ValueError("the run is closed already")
        self._run.source.close()
        self._run.serve()
        self._closed = True
        if self._pieces:
            self._run.table = joined(self._pieces)
        return self._run.records()


def _of_the_run(rows: Any, first: int) -> I64:
    """Numbers of rows of a piece as numbers of rows of the run."""
    rows = np.asarray(rows, dtype=np.int64)
    return np.where(rows >= 0, rows + first, -1)
