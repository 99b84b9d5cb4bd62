"""simserve's own schema as CSV, JSONL or Parquet: every column of RequestTable, in and out.

Required: prompt_tokens, output_tokens. Optional: arrival_s (absent = lengths only), elapsed_s, max_output_tokens, priority, slo_class,
session, after, label_model, log_type, prefix_ids (ids of the prompt's blocks; in CSV separated by spaces) with prefix_block_tokens (the
same in every row).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.files.words import clipped, shown
from simserve.workload.readers.columns import MOST_SECONDS, MOST_TOKENS, ReadOptions, TraceColumns, count_of
from simserve.workload.readers.content_ids import ContentIds
from simserve.workload.readers.csv_layout import listed
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.readers.json_lines import number, objects, text
from simserve.workload.readers.names import encode_names
from simserve.workload.readers.parquet_table import ParquetTable, require
from simserve.workload.requests import I64
from simserve.workload.source import Source

REQUIRED = ("prompt_tokens", "output_tokens")
INTEGERS = {"max_output_tokens": -1, "priority": 0, "session": -1, "after": -1}  # with the value of an empty field
NAMES = ("slo_class", "label_model", "log_type")
ALL = ("arrival_s", *REQUIRED, "elapsed_s", *INTEGERS, *NAMES, "prefix_ids", "prefix_block_tokens")
_LEAST = {"max_output_tokens": -1.0, "session": -1.0, "after": -1.0}


def read(source: Source, options: ReadOptions) -> TraceColumns:
    """Columns of a file in simserve's schema. Raises TraceError naming line (or row) and column of the first mistake."""
    if source.is_parquet:
        return _read_parquet(source)
    if source.first_line().startswith("{"):
        return _read_json_lines(source)
    table = CsvTable(source, ("arrival_s", "elapsed_s", *REQUIRED, *INTEGERS, "prefix_block_tokens"), REQUIRED)
    unnamed = _only_known(source, table.header)
    values: dict[str, Any] = {name: table.integers(name, maximum=MOST_TOKENS) for name in REQUIRED}
    values["arrival_s"] = table.times("arrival_s", ReadOptions())[0] if "arrival_s" in table else None
    values |= {name: table.integers(name, empty=INTEGERS[name], minimum=_LEAST.get(name)) for name in INTEGERS if name in table}
    values |= {name: table.labels(name) for name in NAMES if name in table}
    if "elapsed_s" in table:
        values["elapsed_s"] = table.floats("elapsed_s", empty=np.nan)
    ids = None
    if "prefix_ids" in table:
        ids = ContentIds(source, "prefix_ids")
        for row, line in enumerate(table.texts("prefix_ids")):
            try:
                ids.add(row + 1, [int(i) for i in line.split()])
            except ValueError:
                raise TraceError(
                    f"{source.path}: data row {row + 1}: 'prefix_ids' is {shown(line)}, not integers separated by spaces"
                ) from None
    blocks = table.integers("prefix_block_tokens", empty=0) if "prefix_block_tokens" in table else None
    return _columns(source, values, ids, blocks, unnamed)


def _only_known(source: Source, names: list[str]) -> tuple[str, ...]:
    """Raises TraceError for a column that the schema has not; one without a name, a data frame's index, is only reported."""
    unknown = [name for name in names if name and name not in ALL]
    if unknown:
        raise TraceError(f"{source.path}: unknown column {shown(unknown[0])}. Allowed: {', '.join(ALL)}")
    return ("(unnamed)",) if "" in names else ()


def _columns(
    source: Source, values: dict[str, Any], ids: ContentIds | None, block_tokens: I64 | None, unused: tuple[str, ...]
) -> TraceColumns:
    arrival = values.get("arrival_s")
    if arrival is None and "after" in values:
        raise TraceError(f"{source.path}: column 'after' needs 'arrival_s', the delay after the row it names")
    remarks: list[str] = []
    prefix = None
    if ids is not None:
        stated = np.unique(block_tokens[block_tokens > 0]) if block_tokens is not None else np.empty(0)
        if len(stated) != 1 or block_tokens is None or bool(np.any((block_tokens == 0) & (ids.counts > 0))):
            raise TraceError(f"{source.path}: 'prefix_ids' needs 'prefix_block_tokens', one positive number, the same in every row")
        blocks = ids.blocks(int(stated[0]))
        prefix = blocks.within(values["prompt_tokens"])
        remarks += ids.remarks
        cut = int(np.count_nonzero(np.diff(prefix.offsets) < np.diff(blocks.offsets)))
        if cut:
            size = prefix.block_tokens
            remarks.append(f"{count_of(cut, 'prompt')} had more content ids than blocks of {size} tokens: those beyond were left out")
    return TraceColumns(
        **{"arrival_s": None, **values},
        prefix=prefix,
        times_in=None if arrival is None else "s",
        evidence=("columns " + ", ".join(REQUIRED),),
        unused=unused,
        remarks=tuple(remarks),
    )


def _read_json_lines(source: Source) -> TraceColumns:
    columns: dict[str, list[Any]] = {}
    ids = ContentIds(source, "prefix_ids")
    for line, record in objects(source):
        if not columns:
            _only_known(source, list(record))
            require(source, list(record), REQUIRED)
            columns = {name: [] for name in record}
        odd = record.keys() - columns.keys()
        if odd:
            raise TraceError(f"{source.path}: line {line}: key '{clipped(min(odd))}' is not in the first line ({listed(columns)})")
        for name, values in columns.items():
            if name == "prefix_ids":
                ids.add(line, record.get(name))
            elif name in NAMES:
                values.append(text(source, line, record, name))
            elif name == "elapsed_s":
                has = record.get(name) is not None
                values.append(number(source, line, record, name, whole=False, maximum=MOST_SECONDS) if has else np.nan)
            elif name in INTEGERS or name == "prefix_block_tokens":
                default, least = INTEGERS.get(name, 0), _LEAST.get(name, None if name == "priority" else 0.0)
                has = record.get(name) is not None
                values.append(number(source, line, record, name, whole=True, minimum=least) if has else default)
            else:
                tokens = name != "arrival_s"
                values.append(number(source, line, record, name, whole=tokens, maximum=MOST_TOKENS if tokens else MOST_SECONDS))
    found: dict[str, Any] = {name: np.array(columns[name]).astype(np.int64) for name in (*REQUIRED, *INTEGERS) if name in columns}
    found |= {name: encode_names(source, name, columns[name]) for name in NAMES if name in columns}
    found |= {name: np.array(columns[name], dtype=np.float64) for name in ("arrival_s", "elapsed_s") if name in columns}
    blocks = columns.get("prefix_block_tokens")
    return _columns(
        source, found, ids if "prefix_ids" in columns else None, None if blocks is None else np.array(blocks).astype(np.int64), ()
    )


def _read_parquet(source: Source) -> TraceColumns:
    table = ParquetTable(source)
    _only_known(source, table.header)
    require(source, table.header, REQUIRED)
    values: dict[str, Any] = {name: table.integers(name, maximum=MOST_TOKENS) for name in REQUIRED}
    values |= {name: table.integers(name, empty=INTEGERS[name], minimum=_LEAST.get(name)) for name in INTEGERS if name in table}
    values |= {name: encode_names(source, name, table.texts(name)) for name in NAMES if name in table}
    if "arrival_s" in table:
        values["arrival_s"] = table.floats("arrival_s", maximum=MOST_SECONDS)
    if "elapsed_s" in table:
        values["elapsed_s"] = table.floats("elapsed_s", empty=np.nan, maximum=MOST_SECONDS)
    ids = None
    if "prefix_ids" in table:
        ids = ContentIds(source, "prefix_ids")
        for row, one in enumerate(table.lists("prefix_ids")):
            ids.add(row, one)
    return _columns(source, values, ids, table.integers("prefix_block_tokens", empty=0) if "prefix_block_tokens" in table else None, ())
