"""A trace of more requests than memory need hold: every row is read and checked once before the run, and once more while it goes on.

The rows come as `read_trace` gives them, the same values in the same order. Where times go back, rows wait until those of later parts of
the file that come before them have been read; no others are held. What needs the whole trace at once is read whole.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.workload.chunks import NotInChunksError, chunks, most_rows
from simserve.workload.columns import COLUMNS, Labels, Values, small
from simserve.workload.joining import joined
from simserve.workload.readers import read_columns
from simserve.workload.readers.columns import ReadOptions, TraceColumns
from simserve.workload.requests import RequestTable
from simserve.workload.shaping import Shaping, nothing_left, shape_part
from simserve.workload.trace import Found

FORMATS = ("burstgpt", "azure", "vidur", "simserve")
"""Formats whose rows say what they say each on its own."""

_OF_ALL = ("after", "attempt_of", "salt")
"""Columns that name other rows, or may have a text for each row."""

Names = dict[str, dict[str, int]]
"""Of columns of names, all that occur, numbered in order of first appearance."""

Stamp = tuple[int, int, int]
"""Of a file: its number on the disk, bytes, and when it was written, ns."""


def long_trace(path: Path, format: str | None, options: Shaping, reading: ReadOptions, most: int) -> LongTrace | None:
    """A trace of more than `most` rows, of which every one has been read and checked; None for one of fewer, and for one that needs to be
    read whole: requests that wait for others, contents of prompts, columns of which every row counts, JSONL, formats of packages, a file
    whose mistake shows in the whole only. Raises TraceError for the first mistake of a row, and where options leave none."""
    if options.resample is not None or options.sessions == "dependent":
        return None
    try:
        if path.stat().st_size <= most or most_rows(path) <= most:
            return None
        trace = _read_once(path, format, options, reading)
    except (OSError, NotInChunksError):
        return None
    if (options.strict and trace.found.back) or (not trace.has_arrivals and (options.start_s or options.duration_s is not None)):
        return None
    return trace.counted()


@dataclass(frozen=True, slots=True)
class LongTrace:
    """A trace that has been read once, and can be read again.

    found     what the file is; its `columns` are those of the first part
    stated    the columns without an attribute of `RequestTable` that some row states, and `elapsed_s` where one does
    least_s   of each part, the least time
    last_s    when the last request arrives
    failures  requests of 0 output tokens
    rows      requests that `options` leave
    stamp     of the file when it was read: a change of it is seen without reading all
    """

    path: Path
    format: str | None
    reading: ReadOptions
    options: Shaping
    found: Found
    names: Names
    stated: frozenset[str]
    least_s: tuple[float, ...]
    last_s: float
    failures: int
    rows: int
    stamp: Stamp

    @property
    def has_arrivals(self) -> bool:
        """Whether its requests have times."""
        return self.found.columns.arrival_s is not None

    def nothing(self) -> RequestTable:
        """A table without rows, with the columns, names and provenance of all others."""
        return replace(self._table(self.found.columns), provenance=self._provenance()).part(0, 0)

    def tables(self) -> Iterator[RequestTable]:
        """The requests in order of time, some ten thousand at a time. Raises TraceError where the file is not what it was any more."""
        left, provenance = self.options.limit or sys.maxsize, self._provenance()
        for table in self._in_order():
            out = shape_part(table, self.options, left, str(self.path))
            left -= len(out)
            if len(out):
                yield replace(out, provenance=provenance)
            if not left:
                return

    def counted(self) -> LongTrace:
        """The same with the rows that the options leave. Raises TraceError where there are none."""
        keeps_all = Shaping(clip=self.options.clip, rate_scale=self.options.rate_scale, strict=self.options.strict)
        if self.options == keeps_all:
            return replace(self, last_s=self.last_s / self.options.rate_scale)
        rows = failures = 0
        last_s = 0.0
        for table in self.tables():
            rows, failures = rows + len(table), failures + int(np.count_nonzero(table.output_tokens == 0))
            last_s = float(table.arrival_s[-1])
        if not rows:
            raise nothing_left(str(self.path), self.found.rows, self.last_s)
        return replace(self, rows=rows, failures=failures, last_s=last_s)

    def _provenance(self) -> dict[str, Any]:
        return self.found.provenance(self.options, [], self.rows, self.failures)

    def _in_order(self) -> Iterator[RequestTable]:
        """All rows in order of time, ties as in the file: those of a part, and of parts before, that no later part comes before."""
        later_s = [*accumulate((math.inf, *reversed(self.least_s[1:])), min)][::-1]
        held: list[RequestTable] = []
        rows = 0
        parts = self._parts_again()
        for later, columns in zip(later_s, parts, strict=False):
            held.append(self._table(columns))
            rows += len(held[-1])
            until_s = later - self.found.origin_s
            ready = sum(int(np.count_nonzero(table.arrival_s <= until_s)) for table in held)
            # Joining and sorting costs as much as is held: it pays when half of that leaves, and time stays linear however rows lie.
            if 2 * ready < sum(map(len, held)):
                continue
            table = joined(held)
            if self.found.back:
                table = table.take(np.argsort(table.arrival_s, kind="stable"))
            held = [table.part(ready, len(table))] if ready < len(table) else []
            yield table.part(0, ready)
        if rows != self.found.rows or any(True for _ in parts):
            raise _changed(self.path)

    def _parts_again(self) -> Iterator[TraceColumns]:
        """The parts as they were read before. Raises TraceError where the file is not what it was: rows of two files would be mixed, or
        all be of one that the result does not name."""
        stamp = self.stamp
        try:
            for _, columns in _parts(self.path, self.format, self.reading):
                now = _stamp(self.path)
                if now != stamp:
                    if _sha256(self.path) != self.found.sha256:
                        raise _changed(self.path)
                    stamp = now  # written again as it was, or only touched
                yield columns
        except (OSError, NotInChunksError, TraceError):  # none of which the first reading met
            raise _changed(self.path) from None

    def _table(self, columns: TraceColumns) -> RequestTable:
        """The rows of a part as they are in the file; times count from the first."""
        given = _given(columns, self.names)
        if "elapsed_s" not in self.stated:
            given["elapsed_s"] = None
        table = _built(columns, given)
        others = {name: table.others.get(name, given[name]) for name in COLUMNS if name in self.stated and name != "elapsed_s"}
        arrival_s = table.arrival_s if columns.arrival_s is None else columns.arrival_s - self.found.origin_s
        return replace(table, arrival_s=arrival_s, others={name: values for name, values in others.items() if values is not None})


def _read_once(path: Path, format: str | None, options: Shaping, reading: ReadOptions) -> LongTrace:
    """Reads all rows. Raises NotInChunksError, and TraceError for the first mistake."""
    first: tuple[str, TraceColumns] | None = None
    names: Names = {}
    stated: set[str] = set()
    least_s: list[float] = []
    before_s, last_s = -math.inf, -math.inf
    stamp = _stamp(path)
    rows = back = failures = 0
    for name, columns in _parts(path, format, reading):
        first = first or (name, columns)
        try:
            table = _built(columns, _given(columns, names))
        except ValueError:
            raise NotInChunksError from None
        stated |= table.others.keys()
        if table.elapsed_s is not None and not np.all(np.isnan(table.elapsed_s)):
            stated.add("elapsed_s")
        arrival_s = table.arrival_s if columns.arrival_s is None else columns.arrival_s
        rows += len(table)
        failures += int(np.count_nonzero(table.output_tokens == 0))
        back += int(np.count_nonzero(np.diff(arrival_s, prepend=before_s) < 0))
        before_s = float(arrival_s[-1])
        least_s.append(float(arrival_s.min()))
        last_s = max(last_s, float(arrival_s.max()))
    if first is None or any(len(numbers) > COLUMNS[name].most for name, numbers in names.items()):
        raise NotInChunksError
    digest = _sha256(path)
    if _stamp(path) != stamp:
        raise _changed(path)
    name, columns = first
    origin_s, steps = min(least_s), 0 if columns.arrival_s is None else rows - 1
    found = Found(path.name, digest, name, format is not None, columns, rows, origin_s, back, steps)
    told = found, names, frozenset(stated), tuple(least_s), last_s - origin_s, failures, rows, stamp
    return LongTrace(path, format, reading, options, *told)


def _stamp(path: Path) -> Stamp:
    """Raises OSError."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def _sha256(path: Path) -> str:
    """Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _changed(path: Path) -> TraceError:
    return TraceError(f"{path}: was changed while it was read")


def _parts(path: Path, format: str | None, reading: ReadOptions) -> Iterator[tuple[str, TraceColumns]]:
    """(format, columns) of each part of the file, rows in its order. Raises NotInChunksError, and TraceError for the first mistake."""
    for chunk in chunks(path):
        name, columns = read_columns(chunk.source, format, reading)
        alone = columns.prefix is None and columns.also_after is None and all(columns.column(of_all) is None for of_all in _OF_ALL)
        # Sessions of BurstGPT are texts, numbered as they come; remarks count over all rows.
        if name not in FORMATS or not alone or columns.remarks or (name == "burstgpt" and columns.session is not None):
            raise NotInChunksError
        yield name, columns.since(chunk.repeated)


def _given(columns: TraceColumns, names: Names) -> dict[str, Any]:
    """The declared columns of a part, names by the numbers of all parts so far."""
    found: dict[str, Values | None] = {}
    for name, values in columns.declared().items():
        if isinstance(values, Labels):
            numbers = names.setdefault(name, {})
            codes = np.array([numbers.setdefault(each, len(numbers)) for each in values.names], dtype=np.int64)[values.codes]
            values = Labels(small(codes, len(numbers)), tuple(numbers))
        found[name] = values
    return found


def _built(columns: TraceColumns, given: Mapping[str, Any]) -> RequestTable:
    """A table of a part, every request at time 0. Raises ValueError."""
    own = ("arrival_s", "prompt_tokens", "output_tokens")
    others = {name: values for name, values in given.items() if name not in own}
    return RequestTable.build(np.zeros(len(columns.prompt_tokens)), columns.prompt_tokens, columns.output_tokens, **others)
