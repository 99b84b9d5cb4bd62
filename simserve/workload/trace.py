"""`read_trace`: a trace file of any known format as a table of requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simserve.errors import TraceError, nearest
from simserve.files.words import clipped
from simserve.workload.readers import read_columns
from simserve.workload.readers.columns import PER_SECOND, ReadOptions, TraceColumns
from simserve.workload.requests import F64, I64, RequestTable
from simserve.workload.shaping import Shaping, options_from, root_arrivals, shape
from simserve.workload.source import open_source
from simserve.workload.writing import to_arrow, write_trace

_MOST_NAMED = 40


def read_trace(
    path: str | Path,
    format: str | None = None,
    *,
    seed: int = 0,
    options: Shaping | None = None,
    time_unit: str | None = None,
    block_tokens: int | None = None,
    **flat: Any,
) -> RequestTable:
    """Reads a trace of any known format, plain or gzip.

    format    a name that `simserve trace formats` lists; None = told by the names of columns or fields, and checked against the content.
    options   window, filters, limits and so on; or the same as keywords (`start_s=0, duration_s=3600, clip_total_tokens=4096`).
    seed      for `resample`.
    time_unit     s, ms, us or ns, where times are numbers and not in the unit of the format.
    block_tokens  tokens that one id of the prompt's contents stands for, where it is not that of the format.

    Times count from the window's start. A format without arrivals (vidur) gets arrival 0 everywhere and `has_arrivals: False` in the
    provenance. Failed requests (0 output tokens) are kept. The provenance says what the file was taken for (`read_as`), which columns
    say nothing here (`columns_not_used`) and what a reader of results should know (`notes`). Raises TraceError with file and line for
    anything wrong, and for a file that may be read in two ways.
    """
    options = options if options is not None else options_from(flat)
    if time_unit is not None and time_unit not in PER_SECOND:
        raise TraceError(f"time_unit '{clipped(time_unit)}' is none{nearest(time_unit, PER_SECOND)}")
    source = open_source(Path(path))
    name, columns = read_columns(source, format, ReadOptions(time_unit, block_tokens))
    n = len(columns.prompt_tokens)
    if n == 0:
        raise TraceError(f"{path}: no requests in the file")
    has_arrivals = columns.arrival_s is not None
    if not has_arrivals and (options.start_s or options.duration_s is not None):
        raise TraceError(f"{path}: format {name} has lengths only, so there is no window to cut (start_s, duration_s)")
    back, steps = _steps_back(columns)
    try:
        table, origin = _in_order(columns, options.strict)
    except ValueError as e:
        raise TraceError(f"{path}: {e}") from None
    shaped = shape(table, options, seed, str(path))
    found = Found(source.path.name, source.sha256, name, format is not None, columns, n, origin, back, steps)
    notes = list(columns.remarks)
    if options.sessions == "dependent" and table.elapsed_s is None:
        notes.append("The trace has no answer times: the whole gap between two turns of a session is taken as think time")
    failures = int(np.count_nonzero(shaped.output_tokens == 0))
    return replace(shaped, provenance=found.provenance(options, notes, len(shaped), failures))


class Found(NamedTuple):
    """What a file was found to be.

    name, sha256   of the file
    format, stated the format that it was read as, and whether the user said so
    columns        of the file, or of a part of it
    rows           in the file
    origin_s       its least time
    back, steps    as `_steps_back`
    """

    name: str
    sha256: str
    format: str
    stated: bool
    columns: TraceColumns
    rows: int
    origin_s: float
    back: int
    steps: int

    def provenance(self, options: Shaping, notes: list[str], rows: int, failures: int) -> dict[str, Any]:
        """The provenance of a table of so many `rows` and `failures` that `options` leave."""
        columns, back, steps = self.columns, self.back, self.steps
        # Of a column that is no clock (a duration, say), half of the steps go back; of a log of requests, few.
        if 4 * back > steps > 20:
            notes = [*notes, f"Times go back in {back:,} of {steps:,} steps and were sorted: are they arrival times?"]
        has_arrivals = columns.arrival_s is not None
        order = f"times go back in {back:,} of {steps:,} steps" if has_arrivals else None
        return {
            "source": "trace",
            "format": self.format,
            "file": self.name,
            "sha256": self.sha256,
            "rows_read": self.rows,
            "rows": rows,
            "failures": failures,
            "has_arrivals": has_arrivals,
            "first_timestamp_s": self.origin_s,
            "sorted_by_us": back > 0,
            "read_as": _reading(self.format, columns, order, self.stated),
            "columns_not_used": [clipped(column, 40) for column in columns.unused[:_MOST_NAMED]],
            "notes": notes,
            "options": options.model_dump(mode="json", exclude_defaults=True),
        }


def _steps_back(columns: TraceColumns) -> tuple[int, int]:
    """(steps from one request to the next in which time goes back, steps), among requests with a time of their own."""
    if columns.arrival_s is None:
        return 0, 0
    own = columns.arrival_s if columns.after is None else columns.arrival_s[columns.after < 0]
    return int(np.count_nonzero(np.diff(own) < 0)), max(len(own) - 1, 0)


def _reading(name: str, columns: TraceColumns, order: str | None, stated: bool) -> dict[str, Any]:
    """What the file was taken for, in words and as values, and by what evidence."""
    block_tokens = None if columns.prefix is None else columns.prefix.block_tokens
    words = [name]
    if columns.times_in is not None:
        words.append("times as dates" if columns.times_in == "dates" else f"times in {columns.times_in}")
    if block_tokens is not None:
        words.append(f"contents in blocks of {block_tokens} tokens")
    told_by = ["the format stated"] if stated else []
    return {
        "summary": ", ".join(words),
        "times_in": columns.times_in,
        "block_tokens": block_tokens,
        "told_by": [*told_by, *columns.evidence, *([order] if order else [])],
    }


def _in_order(columns: TraceColumns, strict: bool) -> tuple[RequestTable, float]:
    """(the requests in order of time, the first time of the file). Raises ValueError."""
    n = len(columns.prompt_tokens)
    arrival = columns.arrival_s if columns.arrival_s is not None else np.zeros(n)
    after = np.full(n, -1, dtype=np.int64) if columns.after is None else columns.after
    own = after < 0
    if not own[0]:
        raise ValueError("the first request has 'after', but there is no request before it")
    wrong = np.flatnonzero(after >= np.arange(n))
    if len(wrong):
        raise ValueError(f"row {wrong[0]}: after does not point to an earlier row")
    origin = float(arrival[own].min())
    backward = np.flatnonzero(np.diff(arrival[own]) < 0)
    if len(backward) and strict:
        row = int(np.flatnonzero(own)[backward[0] + 1])
        raise ValueError(f"request {row + 1} arrives before the one above it ({arrival[row]:g} s); times must not decrease")
    arrival = np.where(own, arrival - origin, arrival)
    own_arguments = ("arrival_s", "prompt_tokens", "output_tokens", "after")
    others: dict[str, Any] = {name: values for name, values in columns.declared().items() if name not in own_arguments}
    others |= {"prefix": columns.prefix, "also_after": columns.also_after}
    if columns.elapsed_s is not None and bool(np.all(np.isnan(columns.elapsed_s))):
        others["elapsed_s"] = None
    if not len(backward):
        return RequestTable.build(arrival, columns.prompt_tokens, columns.output_tokens, after=after, **others), origin
    unsorted = RequestTable.build(np.zeros(n), columns.prompt_tokens, columns.output_tokens, after=after, **others)
    return _sorted(unsorted, arrival, after), origin


def _sorted(table: RequestTable, arrival: F64, after: I64) -> RequestTable:
    """By time, ties as they were; a request that waits for another keeps its place behind the one it finally waits for."""
    order = np.argsort(root_arrivals(arrival, after, table.also_after), kind="stable")
    return replace(table.take(order), arrival_s=arrival[order])


__all__ = ["read_trace", "to_arrow", "write_trace"]
