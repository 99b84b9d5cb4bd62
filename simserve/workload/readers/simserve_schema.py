"""simserve's own schema as CSV, JSONL or Parquet: every column of RequestTable, in and out.

Required: arrival_s, prompt_tokens, output_tokens. Optional: max_output_tokens, priority, slo_class, session, after, label_model, log_type,
prefix_ids (ids of the prompt's blocks; in CSV separated by spaces) with prefix_block_tokens (the same in every row).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.workload.readers.columns import TraceColumns
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.readers.json_lines import id_list, number, objects
from simserve.workload.requests import I64, Labels, PrefixBlocks
from simserve.workload.source import Source

REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
INTEGERS = {"max_output_tokens": -1, "priority": 0, "session": -1, "after": -1}  # with the value of an empty field
NAMES = ("slo_class", "label_model", "log_type")
ALL = (*REQUIRED, *INTEGERS, *NAMES, "prefix_ids", "prefix_block_tokens")


def sniff(first_line: str) -> bool:
    return "arrival_s" in first_line and "prompt_tokens" in first_line


def read(source: Source) -> TraceColumns:
    """Columns of a file in simserve's schema. Raises TraceError naming line (or row) and column of the first mistake."""
    if source.is_parquet:
        return _read_parquet(source)
    if source.first_line().startswith("{"):
        return _read_json_lines(source)
    table = CsvTable(source, (*REQUIRED, *INTEGERS, "prefix_block_tokens"), REQUIRED)
    _only_known(source, table.header)
    values: dict[str, Any] = {name: table.integers(name, empty=INTEGERS[name], minimum=None) for name in INTEGERS if name in table}
    values |= {name: table.labels(name) for name in NAMES if name in table}
    if "prefix_ids" in table:
        lists = []
        for row, text in enumerate(table.texts("prefix_ids")):
            try:
                lists.append([int(i) for i in text.split()])
            except ValueError:
                raise TraceError(f"{source.path}: data row {row + 1}: 'prefix_ids' is '{text}', not integers separated by spaces") from None
        values["prefix"] = _prefix(source, lists, table.integers("prefix_block_tokens") if "prefix_block_tokens" in table else None)
    return TraceColumns(table.floats("arrival_s"), table.integers("prompt_tokens"), table.integers("output_tokens"), **values)


def _only_known(source: Source, names: list[str]) -> None:
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise TraceError(f"{source.path}: unknown column '{unknown[0]}'. Allowed: {', '.join(ALL)}")


def _prefix(source: Source, lists: list[list[int]], block_tokens: I64 | None) -> PrefixBlocks:
    if block_tokens is None or len(np.unique(block_tokens)) != 1 or block_tokens[0] < 1:
        raise TraceError(f"{source.path}: 'prefix_ids' needs 'prefix_block_tokens', one positive number, the same in every row")
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in lists])]).astype(np.int64)
    return PrefixBlocks(offsets, np.array([i for ids in lists for i in ids], dtype=np.int64), int(block_tokens[0]))


def encode_names(texts: list[str]) -> Labels:
    """Names as codes in order of first appearance."""
    number: dict[str, int] = {}
    codes = np.array([number.setdefault(t, len(number)) for t in texts], dtype=np.int16)
    return Labels(codes, tuple(number))


def _read_json_lines(source: Source) -> TraceColumns:
    columns: dict[str, list[Any]] = {}
    for line, record in objects(source):
        if not columns:
            _only_known(source, list(record))
            columns = {name: [] for name in dict.fromkeys((*REQUIRED, *record))}
        if record.keys() - columns.keys():
            raise TraceError(f"{source.path}: line {line}: key '{min(record.keys() - columns.keys())}' is not in the first line")
        for name, values in columns.items():
            if name == "prefix_ids":
                values.append(id_list(source, line, record, name))
            elif name in NAMES:
                values.append(str(record.get(name, "")))
            elif name in INTEGERS:
                values.append(number(source, line, {name: INTEGERS[name], **record}, name, whole=True, minimum=None))
            else:
                values.append(number(source, line, record, name, whole=name != "arrival_s"))
    return _from_lists(source, columns)


def _from_lists(source: Source, columns: dict[str, list[Any]]) -> TraceColumns:
    values: dict[str, Any] = {name: np.array(columns[name]).astype(np.int64) for name in INTEGERS if name in columns}
    values |= {name: encode_names(columns[name]) for name in NAMES if name in columns}
    if "prefix_ids" in columns:
        blocks = columns.get("prefix_block_tokens")
        values["prefix"] = _prefix(source, columns["prefix_ids"], None if blocks is None else np.array(blocks).astype(np.int64))
    prompt, output = (np.array(columns[name]).astype(np.int64) for name in REQUIRED[1:])
    return TraceColumns(np.array(columns["arrival_s"], dtype=np.float64), prompt, output, **values)


def _read_parquet(source: Source) -> TraceColumns:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(pa.BufferReader(source.data), use_threads=False)
    except (pa.ArrowInvalid, OSError) as e:
        raise TraceError(f"{source.path}: the Parquet file is damaged or cut short ({str(e).splitlines()[0]})") from None
    _only_known(source, table.column_names)
    for name in REQUIRED:
        if name not in table.column_names:
            raise TraceError(f"{source.path}: column '{name}' is missing; found {', '.join(table.column_names)}")
    values: dict[str, Any] = {}
    for name in (*REQUIRED, *INTEGERS, "prefix_block_tokens"):
        if name not in table.column_names:
            continue
        try:
            column = np.asarray(table.column(name).to_numpy(), dtype=np.float64)
        except (ValueError, TypeError):
            raise TraceError(f"{source.path}: column '{name}' holds {table.column(name).type}, not numbers") from None
        column = np.where(np.isnan(column), INTEGERS[name], column) if name in INTEGERS else column
        bad = ~np.isfinite(column) | ((column < 0) & (name in REQUIRED)) | ((column != np.floor(column)) & (name != "arrival_s"))
        if bool(bad.any()):
            row = int(np.argmax(bad))
            raise TraceError(f"{source.path}: row {row}: '{name}' is {column[row]:g}, which is not allowed there")
        values[name] = column if name == "arrival_s" else column.astype(np.int64)
    blocks = values.pop("prefix_block_tokens", None)
    for name in NAMES:
        if name in table.column_names:
            values[name] = encode_names([str(v or "") for v in table.column(name).to_pylist()])
    if "prefix_ids" in table.column_names:
        values["prefix"] = _prefix(source, table.column("prefix_ids").to_pylist(), blocks)
    return TraceColumns(**values)
