"""Trace files in and out: `read_trace` and `write_trace`."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from simserve.errors import OutputError, TraceError
from simserve.workload.readers import read_columns
from simserve.workload.requests import Labels, RequestTable
from simserve.workload.shaping import Shaping, options_from, shape
from simserve.workload.source import open_source

if TYPE_CHECKING:
    import pyarrow as pa

_OTHER_COLUMNS = ("max_output_tokens", "priority", "slo_class", "session", "label_model", "log_type", "prefix")


def read_trace(path: str | Path, format: str | None = None, *, seed: int = 0, options: Shaping | None = None, **flat: Any) -> RequestTable:
    """Reads a trace of any known format, plain or gzip.

    format    burstgpt, azure, mooncake, ragpulse, vidur or simserve; None = told by the first line.
    options   window, filters, limits and so on; or the same as keywords (`start_s=0, duration_s=3600, clip_total_tokens=4096`).
    seed      for `resample`.

    Times count from the window's start. A format without arrivals (vidur) gets arrival 0 everywhere and `has_arrivals: False` in the
    provenance. Failed requests (0 output tokens) are kept. Raises TraceError with file and line for anything wrong.
    """
    options = options if options is not None else options_from(flat)
    source = open_source(Path(path))
    name, columns = read_columns(source, format)
    n = len(columns.prompt_tokens)
    if n == 0:
        raise TraceError(f"{path}: no requests in the file")
    has_arrivals = columns.arrival_s is not None
    arrival = columns.arrival_s if columns.arrival_s is not None else np.zeros(n)
    own = np.ones(n, dtype=bool) if columns.after is None else columns.after < 0
    if not has_arrivals and (options.start_s or options.duration_s is not None):
        raise TraceError(f"{path}: format {name} has lengths only, so there is no window to cut (start_s, duration_s)")
    if not own[0]:
        raise TraceError(f"{path}: the first request has 'after', but there is no request before it")
    backward = np.flatnonzero(np.diff(arrival[own]) < 0)
    order = None
    if len(backward):
        row = int(np.flatnonzero(own)[backward[0] + 1])
        if options.strict or not bool(own.all()):
            raise TraceError(f"{path}: request {row + 1} arrives before the one above it ({arrival[row]:g} s); times must not decrease")
        order = np.argsort(arrival, kind="stable")
    origin = float(arrival[own].min())
    arrival = np.where(own, arrival - origin, arrival)
    try:
        others = {name: getattr(columns, name) for name in _OTHER_COLUMNS}
        if order is None:
            table = RequestTable.build(arrival, columns.prompt_tokens, columns.output_tokens, after=columns.after, **others)
        else:
            unsorted = RequestTable.build(np.zeros(n), columns.prompt_tokens, columns.output_tokens, **others)
            table = replace(unsorted.take(order), arrival_s=arrival[order])
    except ValueError as e:
        raise TraceError(f"{path}: {e}") from None
    elapsed = columns.elapsed_s if columns.elapsed_s is None or order is None else columns.elapsed_s[order]
    shaped = shape(table, elapsed, options, seed, str(path))
    provenance = {
        "source": "trace",
        "format": name,
        "file": source.path.name,
        "sha256": source.sha256,
        "rows_read": n,
        "rows": len(shaped),
        "failures": int(np.count_nonzero(shaped.output_tokens == 0)),
        "has_arrivals": has_arrivals,
        "first_timestamp_s": origin,
        "sorted_by_us": order is not None,
        "options": options.model_dump(mode="json", exclude_defaults=True),
        **columns.notes,
    }
    return replace(shaped, provenance=provenance)


def write_trace(
    table: RequestTable, path: str | Path, *, schema: Literal["simserve", "burstgpt"] = "simserve", overwrite: bool = False
) -> Path:
    """Writes .csv, .jsonl (both also .gz) or .parquet in simserve's schema (every column), or a .csv in BurstGPT's 6 columns.

    The file appears whole or not at all. Raises OutputError for an existing file, an unknown ending or a full disk.
    """
    path = Path(path)
    suffixes = path.suffixes
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes[-1] if suffixes else "")
    allowed = (".csv",) if schema == "burstgpt" else (".csv", ".jsonl", ".parquet")
    if kind not in allowed or (kind == ".parquet" and path.suffix == ".gz"):
        raise OutputError(f"{path}: the ending of a trace in the {schema} schema is one of {', '.join(allowed)} (.gz after the text ones)")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or ask to overwrite it")
    part = path.with_name(path.name + ".part")
    try:
        columns = _burstgpt_table(table) if schema == "burstgpt" else to_arrow(table)
        if kind == ".parquet":
            from pyarrow import parquet

            parquet.write_table(columns, part)
        else:
            data = _csv(columns, quoting="none" if schema == "burstgpt" else "needed") if kind == ".csv" else _json_lines(columns)
            # mtime 0: the same rows give the same bytes.
            part.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
        os.replace(part, path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({e.strerror or e})") from None
    return path


def to_arrow(table: RequestTable) -> pa.Table:
    """Every column of the table in simserve's schema; columns that say nothing (all default) are left out."""
    import pyarrow as pa

    out: dict[str, Any] = {"arrival_s": table.arrival_s, "prompt_tokens": table.prompt_tokens, "output_tokens": table.output_tokens}
    for name, default in (("max_output_tokens", -1), ("priority", 0), ("session", -1), ("after", -1)):
        values = getattr(table, name)
        if bool(np.any(values != default)):
            out[name] = values
    for name in ("slo_class", "label_model", "log_type"):
        labels: Labels | None = getattr(table, name)
        if labels is not None and (name != "slo_class" or labels.names != ("default",)):
            out[name] = pa.DictionaryArray.from_arrays(pa.array(labels.codes), list(labels.names)).cast(pa.string())
    if table.prefix is not None:
        out["prefix_ids"] = pa.LargeListArray.from_arrays(pa.array(table.prefix.offsets), pa.array(table.prefix.ids))
        out["prefix_block_tokens"] = np.full(len(table), table.prefix.block_tokens)
    return pa.table(out)


def _burstgpt_table(table: RequestTable) -> pa.Table:
    """The 6 columns of BurstGPT v1; whole times as integers, absent labels as ChatGPT conversations."""
    import pyarrow as pa

    if bool(np.any(table.after >= 0)):
        raise OutputError("the BurstGPT schema has no column for requests that wait for another; use simserve's schema")

    def names(labels: Labels | None, default: str) -> Any:
        return [default] * len(table) if labels is None else np.array(labels.names, dtype=object)[labels.codes]

    whole = bool(np.all(table.arrival_s == np.floor(table.arrival_s)))
    return pa.table(
        {
            "Timestamp": table.arrival_s.astype(np.int64) if whole else table.arrival_s,
            "Model": names(table.label_model, "ChatGPT"),
            "Request tokens": table.prompt_tokens,
            "Response tokens": table.output_tokens,
            "Total tokens": table.prompt_tokens + table.output_tokens,
            "Log Type": names(table.log_type, "Conversation log"),
        }
    )


def _csv(columns: pa.Table, quoting: str) -> bytes:
    import pyarrow as pa
    from pyarrow import csv

    if "prefix_ids" in columns.column_names:
        texts = [" ".join(map(str, ids)) for ids in columns.column("prefix_ids").to_pylist()]
        at = columns.column_names.index("prefix_ids")
        columns = columns.set_column(at, "prefix_ids", pa.array(texts))
    sink = pa.BufferOutputStream()
    csv.write_csv(columns, sink, csv.WriteOptions(include_header=False, quoting_style=quoting))
    return (",".join(columns.column_names) + "\n").encode() + bytes(sink.getvalue())


def _json_lines(columns: pa.Table) -> bytes:
    import json

    return ("\n".join(json.dumps(row) for row in columns.to_pylist()) + "\n").encode()
