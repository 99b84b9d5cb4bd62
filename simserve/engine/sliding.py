"""Columns of a long run whose first rows have been let go."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np


class Sliding:
    """A column of numbers by row, of which only the rows from `first` on are there: `column[row]` and `len(column)` are those of the
    whole. Reading or writing a row that has been let go raises LookupError."""

    __slots__ = ("_values", "first")

    def __init__(self, values: Any) -> None:
        self.first = 0
        self._values = values

    def __len__(self) -> int:
        return self.first + len(self._values)

    def __getitem__(self, row: int) -> Any:
        place = row - self.first
        if place < 0:
            raise LookupError(f"row {row} has been let go; rows from {self.first} on are there")
        return self._values[place]

    def __setitem__(self, row: int, value: Any) -> None:
        place = row - self.first
        if place < 0:
            raise LookupError(f"row {row} has been let go; rows from {self.first} on are there")
        self._values[place] = value

    @property
    def plain(self) -> Any:
        """The values that are here, as the array that they are kept in for good."""
        return self._values

    def extend(self, values: Any) -> None:
        """Further rows."""
        self._values.extend(values)

    def frombytes(self, values: bytes) -> None:
        """Further rows, as the machine has them."""
        self._values.frombytes(values)

    def drop_first(self, rows: int) -> Any:
        """The next `rows` rows as an array of their own; they are no longer here."""
        if isinstance(self._values, list):
            gone: Any = self._values[:rows]
        else:
            gone = as_array(self._values)[:rows].copy()
        del self._values[:rows]
        self.first += rows
        return gone

    def rest(self) -> Any:
        """The rows that are here, as an array: a view, to be dropped before anything changes."""
        return as_array(self._values)

    def unended(self) -> int:
        """The first row whose value is 0, or the number of rows."""
        zeros = np.flatnonzero(as_array(self._values) == 0)
        return self.first + (int(zeros[0]) if len(zeros) else len(self._values))


def as_array(values: array[Any] | bytearray) -> Any:
    """The numbers of a plain column, without a copy."""
    kind = np.int8 if isinstance(values, bytearray) else np.float64 if values.typecode == "d" else np.int64
    return np.frombuffer(values, dtype=kind) if len(values) else np.empty(0, dtype=kind)
