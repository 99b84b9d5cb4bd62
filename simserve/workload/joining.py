"""Tables of requests one after the other, as one table, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from simserve.workload.columns import COLUMNS, I64, Column, Labels, Values, small
from simserve.workload.contents import AlsoAfter, PrefixBlocks
from simserve.workload.requests import ATTRIBUTES, RequestTable


def tables_of(table: RequestTable, rows: int) -> Iterator[RequestTable]:
    """The rows of a table, so many at a time."""
    for first in range(0, len(table), rows):
        yield table.part(first, min(first + rows, len(table)))


def joined(tables: Sequence[RequestTable]) -> RequestTable:
    """The rows of all tables (at least one), in order. Numbers of rows in them are taken to be those of the whole; a column that one has
    and another lacks is there; the provenance is the first one's.

    Raises ValueError for contents in blocks of different sizes.
    """
    first, *others = tables
    if not others:
        return first
    rows = [len(table) for table in tables]
    columns: dict[str, Values] = {}
    for column in COLUMNS.values():
        parts = [table.column(column.name) for table in tables]
        if any(part is not None for part in parts):
            columns[column.name] = _column(column, parts, rows)
    return replace(
        first,
        **{name: values for name, values in columns.items() if name in ATTRIBUTES},  # type: ignore[arg-type]
        others={name: values for name, values in columns.items() if name not in ATTRIBUTES},
        prefix=_contents([table.prefix for table in tables], rows),
        also_after=_also_after([table.also_after for table in tables], rows),
    )


def _column(column: Column, parts: list[Values | None], rows: list[int]) -> Values:
    filled = [column.default(count) if part is None else part for part, count in zip(parts, rows, strict=True)]
    if column.kind != "name":
        return np.concatenate([part for part in filled if not isinstance(part, Labels)])
    number: dict[str, int] = {}
    codes = []
    for part in filled:
        assert isinstance(part, Labels)
        renumbered = np.array([number.setdefault(name, len(number)) for name in part.names], dtype=np.int64)
        codes.append(renumbered[part.codes])
    return Labels(small(np.concatenate(codes), len(number)), tuple(number))


def _lists(offsets: list[I64 | None], rows: list[int]) -> I64:
    """Offsets of the lists of all rows; a part without has empty ones."""
    counts = [np.zeros(count, dtype=np.int64) if part is None else np.diff(part) for part, count in zip(offsets, rows, strict=True)]
    return np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)


def _contents(parts: list[PrefixBlocks | None], rows: list[int]) -> PrefixBlocks | None:
    some = [part for part in parts if part is not None]
    if not some:
        return None
    if len({(part.block_tokens, part.outputs) for part in some}) > 1:
        raise ValueError("contents come in blocks of different sizes, or only some go on into the output: one way is needed")
    offsets = _lists([None if part is None else part.offsets for part in parts], rows)
    return replace(some[0], offsets=offsets, ids=np.concatenate([part.ids for part in some]))


def _also_after(parts: list[AlsoAfter | None], rows: list[int]) -> AlsoAfter | None:
    some = [part for part in parts if part is not None]
    if not some:
        return None
    offsets = _lists([None if part is None else part.offsets for part in parts], rows)
    return AlsoAfter(offsets, np.concatenate([part.rows for part in some]))
