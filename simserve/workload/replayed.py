"""A recorded trace replayed while it is read: the same requests as `build_workload` gives, a part of the file at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from simserve.workload.config import WorkloadConfig, find_trace_file, finished, random_streams, shaping_of
from simserve.workload.generators.arrivals import Arriving
from simserve.workload.joining import tables_of
from simserve.workload.long_trace import LongTrace, long_trace
from simserve.workload.readers.columns import ReadOptions
from simserve.workload.requests import RequestTable, Workload


def replayed(config: WorkloadConfig, base_dir: Path, seed: int, most: int) -> Workload | None:
    """The workload of a section that replays a trace of more than `most` rows, at its own times or at those of a process; its table has no
    rows: they come from `Workload.tables`. None for any other section, and for a trace that has to be read whole.

    Raises TraceError for a trace that is missing or has a mistake.
    """
    source, arrivals = config.trace, config.arrivals
    if source is None or config.lengths is not None or config.closed_loop is not None or config.duration_s is not None:
        return None
    reading = ReadOptions(source.time_unit, source.block_tokens)
    trace = long_trace(find_trace_file(source.path, base_dir), source.format, shaping_of(source), reading, most)
    if trace is None or (arrivals is None and not trace.has_arrivals):
        return None
    *_, class_rng, _ = random_streams(seed)
    nothing = finished(replace(trace.nothing(), **_timed(config, trace.nothing())), config, class_rng)
    about_s = trace.last_s if arrivals is None else trace.rows / arrivals.mean_rate_per_s()
    tables = partial(_tables, config, seed, trace)
    return Workload(nothing, max_concurrency=config.max_concurrency, tables=tables, total=trace.rows, about_s=about_s)


def _tables(config: WorkloadConfig, seed: int, trace: LongTrace, rows: int) -> Iterator[RequestTable]:
    """The requests, so many rows at a time."""
    arrival_rng, _, class_rng, _ = random_streams(seed)
    arriving = None if config.arrivals is None else Arriving(config.arrivals, arrival_rng)
    for table in trace.tables():
        if arriving is not None:
            table = replace(table, arrival_s=arriving.next_s(len(table)), **_timed(config, table))
        yield from tables_of(finished(table, config, class_rng), rows)


def _timed(config: WorkloadConfig, table: RequestTable) -> dict[str, Any]:
    """The provenance of a table whose times come from a process, where they do."""
    if config.arrivals is None:
        return {}
    return {"provenance": {**table.provenance, "has_arrivals": True, "arrivals": config.arrivals.model_dump(mode="json")}}
