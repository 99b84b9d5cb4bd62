"""What requests ask for, by row, as the engine reads it."""

from __future__ import annotations

from array import array
from math import inf
from typing import Any

import numpy as np

from simserve.engine.sliding import Sliding
from simserve.engine.stated_columns import StatedColumns
from simserve.workload.requests import RequestTable

_COLUMNS = ("output_tokens", "prompt_tokens", "max_output_tokens", "priority", "session")


class Asked:
    """The columns of a run's requests. array.array: plain numbers come out faster than from NumPy, and a column takes 8 bytes a row, a
    fifth of a list's.

    final  output tokens at which a request ends: what it asks for, or less where that is too long
    first  the first row of `prompt`, `max_output`, `priority` and `session`, which are read by place, `row - first`, once for each request:
           a sliding column would take as many calls
    patience_s  when clients give up; None where none does
    stated  what policies may ask of a request besides
    """

    __slots__ = ("final", "first", "max_output", "patience_s", "priority", "prompt", "session", "stated")

    def __init__(self, table: RequestTable, sliding: bool) -> None:
        def column(kind: str, values: Any) -> Any:
            plain = array(kind, values.tobytes())
            return Sliding(plain) if sliding else plain

        self.first = 0
        self.final = column("q", table.output_tokens)
        self.prompt, self.max_output, self.priority, self.session = (array("q", getattr(table, name).tobytes()) for name in _COLUMNS[1:])
        self.stated = StatedColumns(table, sliding)
        patience_s = table.column("patience_s")
        self.patience_s: Any = column("d", patience_s) if isinstance(patience_s, np.ndarray) else None

    def _whole(self) -> tuple[Any, ...]:
        return self.final, self.prompt, self.max_output, self.priority, self.session

    def append(self, table: RequestTable, may_give_up: bool) -> None:
        """More rows. `may_give_up`: rows to come may have a patience where no row has one so far."""
        for column, name in zip(self._whole(), _COLUMNS, strict=True):
            column.frombytes(getattr(table, name).tobytes())
        patience_s = table.column("patience_s")
        if self.patience_s is None and may_give_up:
            self.patience_s = array("d")
        if self.patience_s is not None:
            self.patience_s.frombytes(patience_s.tobytes() if isinstance(patience_s, np.ndarray) else np.full(len(table), inf).tobytes())
        self.stated.append(table)

    def drop_first(self, rows: int) -> None:
        """The next rows of a sliding run have ended."""
        self.first += rows
        self.final.drop_first(rows)
        for column in self._whole()[1:]:
            del column[:rows]
        if self.patience_s is not None:
            self.patience_s.drop_first(rows)
        self.stated.drop_first(rows)
