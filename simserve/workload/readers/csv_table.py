"""CSV into NumPy columns, fast, with the line of the first mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simserve.errors import TraceError
from simserve.files.words import clipped, shown
from simserve.workload.columns import F64, I64, MOST_NAMES, Labels, small
from simserve.workload.readers import dates, unused
from simserve.workload.readers.columns import MOST_SECONDS, PER_SECOND, ReadOptions
from simserve.workload.readers.csv_layout import layout_of, listed, named_as, rows
from simserve.workload.source import Source

if TYPE_CHECKING:
    import pyarrow as pa

_NOT_A_TIME = np.iinfo(np.int64).min
_EXACT = float(2**53)  # above it, not every whole number is a floating-point number
_THOUSANDS = re.compile(r"\s*[+-]?\d{1,3}(,\d{3})+\s*\Z")


class CsvTable:
    """A parsed CSV. Columns listed as numeric or dates are checked when asked for; everything else is text."""

    def __init__(self, source: Source, numeric: Iterable[str], required: Iterable[str], dates: Iterable[str] = ()) -> None:
        """Columns may be called as wanted or alike ('request_tokens' for 'Request tokens').

        Raises TraceError for missing or repeated columns, a row with too few or too many fields, undecodable bytes.
        """
        self.source = source
        self._separator, written = layout_of(source)
        self._skipped = len((source.data[: source.blank_bytes] + b"header").splitlines())
        numeric, required, dates = tuple(numeric), tuple(required), tuple(dates)
        alike = named_as(written, (*numeric, *required, *dates))
        self.header = [alike.get(name, name) for name in written]
        self.used: set[str] = set()
        for name in self.header:
            if name and self.header.count(name) > 1:
                raise TraceError(f"{source.path}: line 1: column {shown(name)} is there twice")
        missing = [name for name in required if name not in self.header]
        if missing:
            raise TraceError(f"{source.path}: line 1: column '{missing[0]}' is missing; found {listed(self.header)}")
        self._columns = [name or f"(unnamed {i})" for i, name in enumerate(self.header)]
        self._as_text: set[str] = set()
        self.table = self._parse(numeric, dates)
        if self.table.num_rows == 0:
            raise TraceError(f"{source.path}: a header but no rows")

    def _parse(self, numeric: tuple[str, ...], dates: tuple[str, ...]) -> Any:
        """Numbers and dates as such where all are written plainly; else as text, which is read slowly when the column is asked for."""
        import pyarrow as pa

        for zone in (None, "UTC") if dates else (None,):  # dates all without, or all with a zone offset
            with suppress(pa.ArrowException):
                return self._read(dict.fromkeys(numeric, pa.float64()) | dict.fromkeys(dates, pa.timestamp("ns", zone)))
        self._check_rows()
        self._as_text = set(numeric) | set(dates)
        try:
            return self._read(dict.fromkeys(self._as_text, pa.string()))
        except pa.ArrowException as e:
            raise TraceError(f"{self.source.path}: not a readable CSV ({clipped(str(e), 120)})") from None

    def _read(self, kinds: dict[str, Any]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as pacsv

        types: dict[str, pa.DataType] = {name: pa.dictionary(pa.int32(), pa.string()) for name in self._columns}
        types |= {name: kind for name, kind in kinds.items() if name in types}
        return pacsv.read_csv(
            pa.py_buffer(self.source.data),
            # One thread: the time goes into memory bandwidth. One block: a row longer than a block would be refused.
            read_options=pacsv.ReadOptions(
                use_threads=False,
                column_names=self._columns,
                skip_rows=self._skipped,
                block_size=max(1 << 20, min(len(self.source.data), 1 << 30)),
            ),
            parse_options=pacsv.ParseOptions(delimiter=self._separator, newlines_in_values=False),
            convert_options=pacsv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )

    def _check_rows(self) -> None:
        """Raises TraceError for the first row that is none, found by reading the file slowly."""
        path = self.source.path
        try:
            self.source.data.decode("utf-8")
        except UnicodeDecodeError as e:
            line = self.source.data[: e.start].count(10) + 1 + self.source.lines_before
            raise TraceError(f"{path}: line {line}: not UTF-8 text") from None
        for line, row in rows(self.source, self._separator):
            if len(row) != len(self.header):
                fields = f"{len(row)} field{'s' if len(row) > 1 else ''}, the header has {len(self.header)}"
                raise TraceError(f"{path}: line {line}: {fields}; is the file cut short?")

    def __contains__(self, name: str) -> bool:
        return name in self.header

    def fail(self, row: int, name: str, what: str) -> TraceError:
        """The error for a value: row (from 0) and column, with its line and what was written there."""
        column = self.header.index(name)
        for i, (line, fields) in enumerate(rows(self.source, self._separator)):
            if i == row:
                return TraceError(f"{self.source.path}: line {line}: '{name}' is {shown(fields[column])}, {what}")
        return TraceError(f"{self.source.path}: data row {row + 1}: '{name}' {what}")

    def _refuse(self, bad: NDArray[np.bool_], name: str, what: str) -> None:
        if bool(bad.any()):
            raise self.fail(int(np.argmax(bad)), name, what)

    def floats(self, name: str, *, empty: float | None = None, minimum: float | None = 0.0, maximum: float | None = None) -> F64:
        """A column of finite numbers from minimum to maximum; empty fields become `empty`, or are an error when that is None."""
        values = self._floats(name, _number, empty, minimum)
        if maximum is not None:
            self._refuse(values > maximum, name, f"more than {maximum:,.0f}")
        return values

    def _floats(self, name: str, number: Callable[[str], float], empty: float | None, minimum: float | None) -> F64:
        self.used.add(name)
        if name in self._as_text:
            values = np.array([self._number(row, name, text, number) for row, text in enumerate(self._plain_texts(name))])
        else:
            values = _plain(self.table.column(name), np.float64, np.nan)
        if empty is not None:
            values = np.where(np.isnan(values), empty, values)  # data frames write an empty field as nan
            self._refuse(np.isinf(values) if np.isnan(empty) else ~np.isfinite(values), name, "not a finite number")
        else:
            self._refuse(~np.isfinite(values), name, "not a finite number (a request that failed has 0 tokens)")
        if minimum is not None:
            self._refuse(values < minimum, name, "must not be negative" if minimum == 0 else f"must be at least {minimum:g}")
        return values

    def _number(self, row: int, name: str, text: str, number: Callable[[str], float]) -> float:
        if not text.strip():
            return float("nan")
        try:
            return number(text)
        except ValueError as e:
            raise self.fail(row, name, str(e)) from None

    def integers(self, name: str, *, empty: float | None = None, minimum: float | None = 0.0, maximum: float = _EXACT) -> I64:
        """As `floats`, and whole (3, 3.0 and, where commas cannot be decimal, 1,472 are; 3.5 is not), at most `maximum`."""
        values = self._floats(name, _whole_number, empty, minimum)
        self._refuse(np.abs(values) > maximum, name, f"more than {maximum:,.0f}")
        whole = values.astype(np.int64)
        self._refuse(whole != values, name, "not a whole number")
        return whole

    def times(self, name: str, options: ReadOptions) -> tuple[F64, str]:
        """A column of times of the format's own unit, seconds, or of dates: (seconds, what they are written in)."""
        if name in self._as_text and any(dates.looks_like_date(text) for text in self._plain_texts(name)):
            return self.dates(name), "dates"
        unit = options.time_unit or "s"
        values = self.floats(name) / PER_SECOND[unit]
        self._refuse(values >= MOST_SECONDS, name, f"which cannot be {unit}; state its unit: --time-unit ms (workload.trace.time_unit: ms)")
        return values, unit

    def dates(self, name: str) -> F64:
        """A column of dates and times as seconds since the first row's day began."""
        self.used.add(name)
        if name not in self._as_text:
            ns = _plain(self.table.column(name), np.int64, _NOT_A_TIME)
            self._refuse(ns == _NOT_A_TIME, name, "not a date and time")
            return dates.since_first_day(ns)
        try:
            return dates.seconds_of_dates(self._plain_texts(name))
        except dates.DateError as e:
            raise self.fail(e.row, name, str(e)) from None

    def labels(self, name: str, most: int = MOST_NAMES) -> Labels:
        """A text column as codes and names, names in order of first appearance."""
        codes, names = self.codes(name)
        if len(names) > most:
            raise TraceError(f"{self.source.path}: column '{name}' has {len(names)} different values; names are expected, not free text")
        return Labels(small(codes, len(names)), names)

    def codes(self, name: str) -> tuple[I64, tuple[str, ...]]:
        """A text column as integer codes and the texts they stand for, in order of first appearance."""
        self.used.add(name)
        return _codes(self.table.column(name))

    def texts(self, name: str) -> list[str]:
        codes, names = self.codes(name)
        return [names[c] for c in codes.tolist()]

    def _plain_texts(self, name: str) -> list[str]:
        texts: list[str] = self.table.column(name).to_pylist()
        return texts

    def left_over(self, derived: Iterable[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(names of the columns that were not asked for, remarks on those that hold work). `derived` ones repeat what others say."""
        names = tuple(name for name in self.header if name not in self.used and name not in named_as(self.header, derived))
        remarks = []
        for name in names:
            if unused.means_work(name):
                codes, texts = _codes(self.table.column(name))
                counts = np.bincount(codes, minlength=len(texts)).tolist()
                said = unused.remark(name, zip(map(unused.amount, texts), counts, strict=True))
                remarks += [said] if said else []
        return tuple(name or "(unnamed)" for name in names), tuple(remarks)


def _codes(column: Any) -> tuple[I64, tuple[str, ...]]:
    joined = column.combine_chunks()
    array = joined.chunk(0) if hasattr(joined, "num_chunks") else joined
    return _plain(array.indices, np.int32, -1).astype(np.int64), tuple(array.dictionary.to_pylist())


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


def _number(text: str) -> float:
    if _THOUSANDS.match(text):
        raise ValueError("which may be a thousand or a fraction; write it without a comma")
    try:
        if "_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError("not a number") from None


def _whole_number(text: str) -> float:
    """Thousands separators are unambiguous where fractions make no sense: '1,472' tokens."""
    return float(text.replace(",", "")) if _THOUSANDS.match(text) else _number(text)
