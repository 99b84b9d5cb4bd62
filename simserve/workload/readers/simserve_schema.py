"""simserve's own schema as CSV, JSONL or Parquet: every declared column (`workload/columns.py`), in and out.

Required: prompt_tokens, output_tokens; without arrival_s the file has lengths only. Besides columns, a file may have lists: prefix_ids
(ids of the prompt's blocks) or content_ids (of prompt and output together) with prefix_block_tokens (the same in every row), and
also_after (further rows that a row with `after` waits for). In CSV the entries of a list are separated by spaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.files.words import clipped, shown
from simserve.workload.columns import COLUMNS, Column
from simserve.workload.contents import AlsoAfter
from simserve.workload.readers.columns import ReadOptions, TraceColumns, count_of
from simserve.workload.readers.content_ids import ContentIds
from simserve.workload.readers.csv_layout import listed
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.readers.json_lines import number, objects, text
from simserve.workload.readers.names import encode_names
from simserve.workload.readers.parquet_table import ParquetTable, require
from simserve.workload.source import Source

REQUIRED = ("prompt_tokens", "output_tokens")
CONTENTS = ("prefix_ids", "content_ids")
LISTS = (*CONTENTS, "also_after")
SIZE = "prefix_block_tokens"


def allowed() -> tuple[str, ...]:
    """All that a file may have, in the order in which it is written."""
    return (*COLUMNS, "also_after", *CONTENTS, SIZE)


def read(source: Source, options: ReadOptions) -> TraceColumns:
    """Columns of a file in simserve's schema. Raises TraceError naming line (or row) and column of the first mistake."""
    if source.is_parquet:
        return _read_parquet(source)
    if source.first_line().startswith("{"):
        return _read_json_lines(source)
    numeric = [column.name for column in COLUMNS.values() if column.kind != "name"]
    table = CsvTable(source, (*numeric, SIZE), REQUIRED)
    unnamed = _only_known(source, table.header)
    values: dict[str, Any] = {}
    for column in _declared(table.header):
        if column.kind == "name":
            values[column.name] = table.labels(column.name, most=int(column.most))
        elif column.name == "arrival_s":
            values["arrival_s"] = table.times("arrival_s", ReadOptions())[0]
        elif column.kind == "number":
            values[column.name] = table.floats(column.name, empty=_empty(column), minimum=column.least, maximum=column.most)
        else:
            values[column.name] = table.integers(column.name, empty=_empty(column), minimum=column.least, maximum=column.most)
    lists = {name: _Lists(source, name) for name in LISTS if name in table}
    for name, found in lists.items():
        for row, line in enumerate(table.texts(name)):
            try:
                found.add(row + 1, [int(i) for i in line.split()])
            except ValueError:
                raise TraceError(
                    f"{source.path}: data row {row + 1}: '{name}' is {shown(line)}, not integers separated by spaces"
                ) from None
    sizes = table.integers(SIZE, empty=0) if SIZE in table else None
    return _columns(source, values, lists, sizes, unnamed)


def _declared(header: Iterable[str]) -> list[Column]:
    there = set(header)
    return [column for column in COLUMNS.values() if column.name in there]


def _empty(column: Column) -> float | None:
    return None if column.absent is None else float(column.absent)


def _only_known(source: Source, names: list[str]) -> tuple[str, ...]:
    """Raises TraceError for a column that the schema has not; one without a name, a data frame's index, is only reported."""
    unknown = [name for name in names if name and name not in allowed()]
    if unknown:
        times = "" if "arrival_s" in names else "; times of arrival stand in 'arrival_s', in seconds"
        raise TraceError(f"{source.path}: unknown column {shown(unknown[0])}{times}. Allowed: {', '.join(allowed())}")
    if set(CONTENTS) <= set(names):
        raise TraceError(
            f"{source.path}: has 'prefix_ids' (of prompts) and 'content_ids' (of prompts and outputs together); one of the two"
        )
    return ("(unnamed)",) if "" in names else ()


class _Lists(ContentIds):
    """The lists of one column."""

    def parents(self) -> AlsoAfter:
        """As rows that rows wait for. Raises TraceError for what is no number of a row."""
        offsets = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)
        for place, one in enumerate(self.raw):
            if type(one) is not int or not 0 <= one < len(self.lines):
                raise self.wrong(self.line_of(offsets, place), f"holds {shown(one)}, which is the number of no row")
        return AlsoAfter(offsets, np.array(self.raw, dtype=np.int64))


def _columns(source: Source, values: dict[str, Any], lists: dict[str, _Lists], block_tokens: Any, unused: tuple[str, ...]) -> TraceColumns:
    arrival = values.setdefault("arrival_s", None)
    if arrival is None and "after" in values:
        raise TraceError(f"{source.path}: column 'after' needs 'arrival_s', the delay after the row it names")
    if "also_after" in lists and "after" not in values:
        raise TraceError(f"{source.path}: column 'also_after' (further rows to wait for) needs 'after', the first of them")
    remarks: list[str] = []
    prefix = None
    name = next((name for name in CONTENTS if name in lists), None)
    if name is not None:
        ids = lists[name]
        stated = np.unique(block_tokens[block_tokens > 0]) if block_tokens is not None else np.empty(0)
        if len(stated) != 1 or block_tokens is None or bool(np.any((block_tokens == 0) & (ids.counts > 0))):
            raise TraceError(f"{source.path}: '{name}' needs '{SIZE}', one positive number, the same in every row")
        blocks = ids.blocks(int(stated[0]), outputs=name == "content_ids")
        prefix = blocks.within(blocks.told(values["prompt_tokens"], values["output_tokens"]))
        remarks += ids.remarks
        cut = int(np.count_nonzero(np.diff(prefix.offsets) < np.diff(blocks.offsets)))
        if cut:
            what = count_of(cut, "request" if prefix.outputs else "prompt")
            remarks.append(f"{what} had more content ids than blocks of {prefix.block_tokens} tokens: those beyond were left out")
    adapters = set(values["adapter"].names) - {""} if "adapter" in values else ()
    if adapters:
        told = "prefix caches and policies tell them apart, their weights and kernels are not simulated"
        remarks.append(f"requests ask for {count_of(len(adapters), 'adapter')}: {told}")
    return TraceColumns.of(
        values,
        prefix=prefix,
        also_after=lists["also_after"].parents() if "also_after" in lists and lists["also_after"].any else None,
        times_in=None if arrival is None else "s",
        evidence=("columns " + ", ".join(REQUIRED),),
        unused=unused,
        remarks=tuple(remarks),
    )


def _read_json_lines(source: Source) -> TraceColumns:
    columns: dict[str, list[Any]] = {}
    lists: dict[str, _Lists] = {}
    for line, record in objects(source):
        if not columns:
            _only_known(source, list(record))
            require(source, list(record), REQUIRED)
            columns = {name: [] for name in record}
            lists = {name: _Lists(source, name) for name in LISTS if name in record}
        odd = record.keys() - columns.keys()
        if odd:
            raise TraceError(f"{source.path}: line {line}: key '{clipped(min(odd))}' is not in the first line ({listed(columns)})")
        for name, values in columns.items():
            if name in lists:
                lists[name].add(line, record.get(name))
            elif name == SIZE:
                values.append(0 if record.get(name) is None else number(source, line, record, name, whole=True))
            else:
                values.append(_value(source, line, record, COLUMNS[name]))
    found: dict[str, Any] = {}
    for column in _declared(columns):
        name, read = column.name, columns[column.name]
        if column.kind == "name":
            found[name] = encode_names(source, name, read, int(column.most))
        else:
            found[name] = np.array(read, dtype=np.float64) if column.kind == "number" else np.array(read).astype(np.int64)
    return _columns(source, found, lists, np.array(columns[SIZE]).astype(np.int64) if SIZE in columns else None, ())


def _value(source: Source, line: int, record: dict[str, Any], column: Column) -> float | str:
    if column.kind == "name":
        return text(source, line, record, column.name)
    if column.absent is not None and record.get(column.name) is None:
        return float(column.absent)
    return number(source, line, record, column.name, whole=column.kind != "number", minimum=column.least, maximum=column.most)


def _read_parquet(source: Source) -> TraceColumns:
    table = ParquetTable(source)
    _only_known(source, table.header)
    require(source, table.header, REQUIRED)
    values: dict[str, Any] = {}
    for column in _declared(table.header):
        if column.kind == "name":
            values[column.name] = encode_names(source, column.name, table.texts(column.name), int(column.most))
        else:
            numbers = table.floats if column.kind == "number" else table.integers
            values[column.name] = numbers(column.name, empty=_empty(column), minimum=column.least, maximum=column.most)
    lists = {name: _Lists(source, name) for name in LISTS if name in table}
    for name, found in lists.items():
        for row, one in enumerate(table.lists(name)):
            found.add(row, one)
    return _columns(source, values, lists, table.integers(SIZE, empty=0) if SIZE in table else None, ())
