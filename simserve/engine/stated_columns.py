"""Columns of the workload that policies may see and that no attribute of a request stands for (`request.column`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from simserve.engine.sliding import Sliding
from simserve.errors import PolicyError, nearest
from simserve.workload.columns import COLUMNS, Column, Labels, Values
from simserve.workload.requests import ATTRIBUTES, RequestTable

Value = int | float | str | None


class StatedColumns:
    """The columns of one run. A request of a workload without any is not told of them and costs nothing."""

    __slots__ = ("_rows", "_values")

    def __init__(self, table: RequestTable | None = None, sliding: bool = False) -> None:
        """`sliding`: rows may leave (`drop_first`)."""
        others = [] if table is None else table.other_columns()
        self._rows = 0 if table is None else len(table)
        plain = {column.name: _plain(column, values) for column, values in others if column.visible}
        self._values: dict[str, Any] = {name: Sliding(values) for name, values in plain.items()} if sliding else {**plain}

    def __bool__(self) -> bool:
        return bool(self._values)

    def append(self, table: RequestTable) -> None:
        """The columns of further rows."""
        more = {column.name: _plain(column, values) for column, values in table.other_columns() if column.visible}
        for name in more.keys() - self._values.keys():
            self._values[name] = [None] * self._rows
        for name, values in self._values.items():
            values.extend(more.get(name, [None] * len(table)))
        self._rows += len(table)

    def drop_first(self, rows: int) -> None:
        """The next rows of a sliding run have ended."""
        for values in self._values.values():
            values.drop_first(rows)

    def value(self, name: str, row: int) -> Value:
        """What a row states, None where it states nothing. Raises PolicyError for a column that is none, is hidden from policies or is a
        property of requests."""
        values = self._values.get(name)
        if values is not None:
            found: Value = values[row]
            return found
        column = COLUMNS.get(name)
        if column is None or not column.visible:
            visible = [each.name for each in COLUMNS.values() if each.visible and each.name not in ATTRIBUTES]
            raise PolicyError(f"requests have no column '{name}' that policies may see{nearest(name, visible)}")
        if name in ATTRIBUTES:
            raise PolicyError(f"column '{name}' is a property of requests: request.{name}")
        return None


def _plain(column: Column, values: Values) -> list[Value]:
    """Plain values, which come out faster than NumPy's, None where a row states nothing. Names are shared."""
    stated = column.stated(values).tolist()
    found = np.array(values.names, dtype=object)[values.codes] if isinstance(values, Labels) else values
    return [value if says else None for value, says in zip(found.tolist(), stated, strict=True)]


NONE_STATED = StatedColumns()
