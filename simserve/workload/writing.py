"""`write_trace`: a table of requests as a file, in simserve's own schema or BurstGPT's."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from simserve.errors import OutputError
from simserve.workload.requests import Labels, RequestTable

if TYPE_CHECKING:
    import pyarrow as pa

Schema = Literal["simserve", "burstgpt"]

IN_BURSTGPT = ("arrival_s", "prompt_tokens", "output_tokens", "elapsed_s", "session", "after", "label_model", "log_type")
"""Columns that the BurstGPT schema has a place for (`after` is refused)."""


def write_trace(table: RequestTable, path: str | Path, *, schema: Schema = "simserve", overwrite: bool = False) -> Path:
    """Writes .csv, .jsonl (both also .gz) or .parquet in simserve's schema (every column), or a .csv in BurstGPT's columns: the 6 of
    v1, or the 8 of v3 when the table has sessions or answer times. `not_written` says what the schema cannot hold.

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
            data = _csv(columns, path, quoted=schema == "simserve") if kind == ".csv" else _json_lines(columns)
            # mtime 0: the same rows give the same bytes.
            part.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
        os.replace(part, path)
    except OSError as e:
        with contextlib.suppress(NotADirectoryError):  # below a file there is no part
            part.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({e.strerror or e})") from None
    return path


def not_written(table: RequestTable, schema: Schema) -> list[str]:
    """What a file in that schema does not say of these requests, a phrase each."""
    out = [f"column '{name}' of the source" for name in table.provenance.get("columns_not_used", ())]
    if schema == "simserve":
        return out
    if table.prefix is not None and len(table.prefix.ids):
        out.append("contents of the prompts")
    if not table.provenance.get("has_arrivals", True):
        out.append("that there are no arrival times (all are 0)")
    return out + [f"column {column.name}" for column, _ in table.stated_columns() if column.name not in IN_BURSTGPT]


def to_arrow(table: RequestTable) -> pa.Table:
    """Every column of the table in simserve's schema; columns that say nothing (all default) are left out, and arrivals that the source
    did not have."""
    import pyarrow as pa

    out: dict[str, Any] = {}
    for column, values in table.stated_columns():
        if isinstance(values, Labels):
            out[column.name] = pa.DictionaryArray.from_arrays(pa.array(values.codes), list(values.names)).cast(pa.string())
        elif column.name != "arrival_s" or table.provenance.get("has_arrivals", True):
            out[column.name] = pa.array(values, from_pandas=True) if column.kind == "number" and column.absent is not None else values
    if table.also_after is not None and len(table.also_after.rows):
        out["also_after"] = pa.LargeListArray.from_arrays(pa.array(table.also_after.offsets), pa.array(table.also_after.rows))
    if table.prefix is not None:
        name = "content_ids" if table.prefix.outputs else "prefix_ids"
        out[name] = pa.LargeListArray.from_arrays(pa.array(table.prefix.offsets), pa.array(table.prefix.ids))
        out["prefix_block_tokens"] = np.full(len(table), table.prefix.block_tokens)
    return pa.table(out)


def _burstgpt_table(table: RequestTable) -> pa.Table:
    """The columns of BurstGPT; whole times as integers, absent labels as ChatGPT conversations."""
    import pyarrow as pa

    if bool(np.any(table.after >= 0)):
        raise OutputError("the BurstGPT schema has no column for requests that wait for another; use simserve's schema")

    def names(labels: Labels | None, default: str) -> Any:
        return [default] * len(table) if labels is None else np.array(labels.names, dtype=object)[labels.codes]

    whole = bool(np.all(table.arrival_s == np.floor(table.arrival_s)))
    columns: dict[str, Any] = {"Timestamp": table.arrival_s.astype(np.int64) if whole else table.arrival_s}
    elapsed = table.elapsed_s
    if elapsed is not None or bool(np.any(table.session >= 0)):
        columns["Session ID"] = pa.array([None if s < 0 else f"session-{s}" for s in table.session.tolist()], pa.string())
        columns["Elapsed time"] = pa.array(np.full(len(table), np.nan) if elapsed is None else elapsed, from_pandas=True)
    columns["Model"] = names(table.label_model, "ChatGPT")
    columns["Request tokens"] = table.prompt_tokens
    columns["Response tokens"] = table.output_tokens
    columns["Total tokens"] = table.prompt_tokens + table.output_tokens
    columns["Log Type"] = names(table.log_type, "Conversation log")
    return pa.table(columns)


def _csv(columns: pa.Table, path: Path, *, quoted: bool) -> bytes:
    import pyarrow as pa
    from pyarrow import csv

    for at, column in enumerate(columns.schema):
        if pa.types.is_large_list(column.type):
            columns = columns.set_column(at, column.name, pa.array([" ".join(map(str, each)) for each in columns.column(at).to_pylist()]))
    names = {name for column in columns.columns if pa.types.is_string(column.type) for name in column.unique().to_pylist() if name}
    if any(character in name for name in names for character in "\r\n\0"):
        raise OutputError(f"{path}: a name in the table holds a line break, which a CSV cannot say; write .jsonl or .parquet")
    quoted = quoted or any(character in name for name in names for character in ',"')
    sink = pa.BufferOutputStream()
    csv.write_csv(columns, sink, csv.WriteOptions(include_header=False, quoting_style="needed" if quoted else "none"))
    return (",".join(columns.column_names) + "\n").encode() + bytes(sink.getvalue())


def _json_lines(columns: pa.Table) -> bytes:
    return ("\n".join(json.dumps(row) for row in columns.to_pylist()) + "\n").encode()
