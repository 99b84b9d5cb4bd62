"""Takes the pieces of a run: measures them, adds them up and writes their requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simserve.engine.records import Piece, RunRecords
from simserve.report.metrics import measure
from simserve.report.request_file import request_table
from simserve.report.slo import normalize_limits
from simserve.report.streamed.spool import RequestSpool
from simserve.report.streamed.totals import Totals


class Streamed:
    """Called with each piece of a run (`engine.Pieces`).

    costs   the cost model of each instance
    slo     as in `Result`
    path    where the requests are written; None = a temporary place
    middle  the piece that holds this row is kept, for what is learned from a stretch of the run
    """

    def __init__(self, costs: Sequence[Any], slo: Mapping[str, Any], warmup_s: float, path: Path | None, middle: int = 0) -> None:
        limits = normalize_limits(slo)
        self.totals = Totals(limits, warmup_s, costs)
        self.spool = RequestSpool(path)
        self.stretch: RunRecords | None = None
        """The requests and steps of a piece in the middle."""
        self._limits, self._warmup_s, self._middle = limits, warmup_s, middle
        self._since_s = 0.0

    def __call__(self, piece: Piece) -> None:
        records = piece.records
        if len(records.table):
            m = measure(records, self._limits, self._warmup_s, statistics=False)
            self.totals.add(piece, m)
            self.spool.add(request_table(m, piece.first_row))
        else:
            self.totals.add_steps(piece.lanes, piece.begun_s)
        if self.stretch is None or piece.first_row <= self._middle:
            self.stretch = replace(records, lanes=piece.lanes, end_s=records.end_s - self._since_s)
        self._since_s = records.end_s
