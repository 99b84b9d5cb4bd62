"""Parquet into checked columns: numbers are numbers, and what is not is refused with the column's name."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.files.words import clipped, shown
from simserve.workload.readers.csv_layout import listed
from simserve.workload.requests import F64, I64
from simserve.workload.source import Source

_EXACT = 2**53


class ParquetTable:
    """The columns of a Parquet file. An index column that pandas wrote is left out."""

    def __init__(self, source: Source) -> None:
        """Raises TraceError for a damaged file or repeated columns."""
        import pyarrow as pa
        from pyarrow import parquet

        self.source = source
        try:
            names = (parquet.read_schema(pa.BufferReader(source.data)) if source.rows is None else source.rows.schema).names
            for name in names:
                if names.count(name) > 1:
                    raise TraceError(f"{source.path}: column {shown(name)} is there twice")
            self.table = parquet.read_table(pa.BufferReader(source.data), use_threads=False) if source.rows is None else source.rows
            self.table.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as e:  # among them memory that a damaged length asks for
            raise TraceError(f"{source.path}: the Parquet file is damaged or cut short ({clipped(str(e), 120)})") from None
        self.header = [name for name in names if not name.startswith("__index_level_")]
        if self.table.num_rows == 0:
            raise TraceError(f"{source.path}: no rows")

    def __contains__(self, name: str) -> bool:
        return name in self.header

    def _column(self, name: str) -> Any:
        """The column without dictionary encoding."""
        import pyarrow as pa

        column = self.table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        return column

    def _wrong(self, row: int, name: str, what: str) -> TraceError:
        return TraceError(f"{self.source.path}: row {self.source.rows_before + row}: '{name}' is {what}")

    def floats(self, name: str, *, empty: float | None = None, minimum: float | None = 0.0, maximum: float = float(_EXACT)) -> F64:
        """Finite numbers from minimum to maximum; nulls and NaN become `empty`, or are an error when that is None."""
        import pyarrow as pa

        column = self._column(name)
        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
            raise TraceError(f"{self.source.path}: column '{name}' holds {clipped(str(kind))}, not numbers")
        if pa.types.is_float16(kind):
            raise TraceError(f"{self.source.path}: column '{name}' holds {kind}, too coarse for numbers of a trace")
        values = _numbers(column)
        missing = np.isnan(values)
        if empty is None and bool(missing.any()):
            raise self._wrong(int(np.argmax(missing)), name, "empty; a number is needed")
        beyond = ~missing & ((np.abs(values) > maximum) | (False if minimum is None else values < minimum))
        if bool(beyond.any()):
            row = int(np.argmax(beyond))
            allowed = f"at most {maximum:,.0f}" + ("" if minimum is None else f", at least {minimum:g}")
            raise self._wrong(row, name, f"{values[row]:g}; {allowed}")
        return np.where(missing, np.nan if empty is None else empty, values)

    def integers(self, name: str, *, empty: float | None = None, minimum: float | None = 0.0, maximum: float = float(_EXACT)) -> I64:
        """As `floats`, and whole."""
        values = self.floats(name, empty=empty, minimum=minimum, maximum=maximum)
        fraction = values != np.floor(values)
        if bool(fraction.any()):
            row = int(np.argmax(fraction))
            raise self._wrong(row, name, f"{values[row]:g}, not a whole number")
        return values.astype(np.int64)

    def texts(self, name: str) -> list[str]:
        """Names; nulls are empty. Raises TraceError for a column of anything but text."""
        import pyarrow as pa

        column = self._column(name)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_null(column.type)):
            raise TraceError(f"{self.source.path}: column '{name}' holds {clipped(str(column.type))}, not text")
        return [text or "" for text in column.to_pylist()]

    def lists(self, name: str) -> list[Any]:
        """Lists, or None where there is none. Raises TraceError for a column of anything else."""
        import pyarrow as pa

        kind = self._column(name).type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_null(kind)):
            raise TraceError(f"{self.source.path}: column '{name}' holds {clipped(str(kind))}, not lists of ids")
        values: list[Any] = self._column(name).to_pylist()
        return values


def records(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row from 1, fields) of a Parquet file as of JSONL: fields that are null are absent."""
    table = ParquetTable(source)
    first = 1
    for batch in table.table.select(table.header).to_batches(max_chunksize=10_000):
        for row, record in enumerate(batch.to_pylist(), first):
            yield row, {key: value for key, value in record.items() if value is not None}
        first += batch.num_rows


def fields(source: Source) -> dict[str, object]:
    """The columns' names, with an empty mapping for a nested one and None for others. Raises TraceError for a damaged file."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(pa.BufferReader(source.data)) if source.rows is None else source.rows.schema
    except (pa.ArrowException, OSError, ValueError) as e:
        raise TraceError(f"{source.path}: the Parquet file is damaged or cut short ({clipped(str(e), 120)})") from None
    return {field.name: {} if pa.types.is_struct(field.type) else None for field in schema}


def require(source: Source, header: list[str], required: tuple[str, ...]) -> None:
    """Raises TraceError for the first required column that is missing."""
    for name in required:
        if name not in header:
            raise TraceError(f"{source.path}: column '{name}' is missing; found {listed(header)}")


def _numbers(column: Any) -> F64:
    """The numbers of an Arrow column, NaN where there is none: from its buffers where they are of a type that NumPy has."""
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return np.array([np.nan if v is None else _float(v) for v in column.to_pylist()], dtype=np.float64)
    dtype = {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
    parts = []
    for chunk in column.chunks:
        if not len(chunk):
            continue
        parts.append(np.frombuffer(chunk.buffers()[1], dtype=dtype)[chunk.offset : chunk.offset + len(chunk)].astype(np.float64))
        if chunk.null_count:
            parts[-1][np.array(chunk.is_null().to_pylist(), dtype=bool)] = np.nan
    return np.concatenate([np.empty(0), *parts])


def _float(value: Any) -> float:
    try:
        return float(value) if not isinstance(value, Decimal) or value.is_finite() else float("nan")
    except OverflowError:
        return float("inf")
