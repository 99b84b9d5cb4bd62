"""CSV into NumPy columns, fast, with the line of the first mistake."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simserve.errors import TraceError
from simserve.workload.requests import F64, I64, Labels
from simserve.workload.source import Source

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_A_TIME = np.iinfo(np.int64).min


class CsvTable:
    """A parsed CSV. Columns listed as numeric are checked when asked for; everything else is text."""

    def __init__(self, source: Source, numeric: Iterable[str], required: Iterable[str], timestamps: Iterable[str] = ()) -> None:
        """Raises TraceError for missing columns, a row with too few or too many fields, text where a number belongs, undecodable bytes."""
        import pyarrow as pa
        from pyarrow import csv as pacsv

        self.source = source
        self.header = self._header()
        missing = [name for name in required if name not in self.header]
        if missing:
            raise TraceError(f"{source.path}: line 1: column '{missing[0]}' is missing; found {', '.join(self.header)}")
        types: dict[str, pa.DataType] = {name: pa.dictionary(pa.int32(), pa.string()) for name in self.header}
        types |= {name: pa.float64() for name in numeric if name in types}
        types |= {name: pa.timestamp("ns") for name in timestamps if name in types}
        self._types = types
        short: list[tuple[int, int]] = []

        def invalid(row: pacsv.InvalidRow) -> str:
            short.append((row.number or 0, row.actual_columns))
            return "error"

        try:
            # One thread: the time goes into memory bandwidth, and line numbers of bad rows are only known in order.
            self.table = pacsv.read_csv(
                pa.py_buffer(source.data),
                read_options=pacsv.ReadOptions(use_threads=False, column_names=self.header, skip_rows=1),
                parse_options=pacsv.ParseOptions(newlines_in_values=False, invalid_row_handler=invalid),
                convert_options=pacsv.ConvertOptions(column_types=types, strings_can_be_null=False),
            )
        except pa.ArrowInvalid as e:
            raise self._explain(str(e)) from None
        if self.table.num_rows == 0:
            raise TraceError(f"{source.path}: a header but no rows")

    def _header(self) -> list[str]:
        return [name.strip() for name in next(csv.reader([self.source.first_line()]), [])]

    def __contains__(self, name: str) -> bool:
        return name in self.header

    def _rows(self) -> Iterable[tuple[int, list[str]]]:
        """(line number, fields) of each data row."""
        reader = csv.reader(io.StringIO(self.source.data.decode("utf-8-sig", "replace"), newline=""))
        next(reader, None)
        for row in reader:
            if row:
                yield reader.line_num, row

    def _explain(self, arrow_message: str) -> TraceError:
        """The first mistake of the file, found by reading it slowly."""
        path = self.source.path
        try:
            self.source.data.decode("utf-8")
        except UnicodeDecodeError as e:
            return TraceError(f"{path}: line {self.source.data[: e.start].count(10) + 1}: not UTF-8 text")
        import pyarrow as pa

        checks = {name: _is_number if kind == pa.float64() else None for name, kind in self._types.items()}
        for line, row in self._rows():
            if len(row) != len(self.header):
                return TraceError(f"{path}: line {line}: {len(row)} fields, the header has {len(self.header)}; is the file cut short?")
            for name, value in zip(self.header, row, strict=True):
                check = checks[name]
                if check is not None and not check(value):
                    return TraceError(f"{path}: line {line}: '{name}' is '{value}', not a number")
                if self._types[name] == pa.timestamp("ns") and not _is_timestamp(value):
                    return TraceError(f"{path}: line {line}: '{name}' is '{value}', not a date and time")
        return TraceError(f"{path}: not a readable CSV ({arrow_message.splitlines()[0]})")

    def _fail(self, bad: NDArray[np.bool_], name: str, what: str) -> None:
        if not bool(bad.any()):
            return
        wanted = int(np.argmax(bad))
        column = self.header.index(name)
        for i, (line, row) in enumerate(self._rows()):
            if i == wanted:
                raise TraceError(f"{self.source.path}: line {line}: '{name}' is '{row[column]}', {what}")
        raise TraceError(f"{self.source.path}: data row {wanted + 1}: '{name}' {what}")

    def floats(self, name: str, *, empty: float | None = None, minimum: float | None = 0.0) -> F64:
        """A column of finite numbers >= minimum; empty fields become `empty`, or are an error when that is None."""
        values: F64 = _plain(self.table.column(name), np.float64, np.nan)
        if empty is not None:
            values = np.where(np.isnan(values), empty, values)
        self._fail(~np.isfinite(values), name, "not a finite number")
        if minimum is not None:
            self._fail(values < minimum, name, "must not be negative" if minimum == 0 else f"must be at least {minimum:g}")
        return values

    def integers(self, name: str, *, empty: float | None = None, minimum: float | None = 0.0) -> I64:
        """As `floats`, and whole (3 and 3.0 are, 3.5 is not)."""
        values = self.floats(name, empty=empty, minimum=minimum)
        whole = values.astype(np.int64)
        self._fail(whole != values, name, "not a whole number")
        return whole

    def seconds(self, name: str) -> F64:
        """A timestamp column as seconds since the first row's day began."""
        ns = _plain(self.table.column(name), np.int64, _NOT_A_TIME)
        self._fail(ns == _NOT_A_TIME, name, "not a date and time")
        seconds: F64 = (ns - ns[0] // 86_400_000_000_000 * 86_400_000_000_000) / 1e9
        return seconds

    def labels(self, name: str) -> Labels:
        """A text column as codes and names, names in order of first appearance."""
        codes, names = self.codes(name)
        if len(names) > np.iinfo(np.int16).max:
            raise TraceError(f"{self.source.path}: column '{name}' has {len(names)} different values; names are expected, not free text")
        return Labels(codes.astype(np.int16), names)

    def codes(self, name: str) -> tuple[I64, tuple[str, ...]]:
        """A text column as integer codes and the texts they stand for, in order of first appearance."""
        column = self.table.column(name).combine_chunks()
        array = column.chunk(0) if hasattr(column, "num_chunks") else column
        return _plain(array.indices, np.int32, -1).astype(np.int64), tuple(array.dictionary.to_pylist())

    def texts(self, name: str) -> list[str]:
        codes, names = self.codes(name)
        return [names[c] for c in codes.tolist()]


def _plain(column: Any, dtype: type[np.generic], null: float) -> NDArray[Any]:
    """The values of an Arrow column of that type, nulls replaced. Arrow's own `to_numpy` would import pandas, half a second."""
    parts = []
    for chunk in getattr(column, "chunks", [column]):
        values = np.frombuffer(chunk.buffers()[1], dtype=dtype)[chunk.offset : chunk.offset + len(chunk)]
        if chunk.null_count:
            values = values.copy()
            values[np.array(chunk.is_null().to_pylist(), dtype=bool)] = null
        parts.append(values)
    return np.concatenate(parts)


def _is_number(text: str) -> bool:
    if not text.strip():
        return True  # a missing value; whether it is allowed is decided with the column
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_timestamp(text: str) -> bool:
    try:
        np.datetime64(text.strip())
    except ValueError:
        return False
    return True
