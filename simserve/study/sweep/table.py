"""The rows of a study as columns of numbers, filled in any order: 8 bytes a cell, so that memory stays small."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from simserve.study.quantities import SOME_RUNS, standard


class Rows:
    """`count` rows; cells that were not filled are NaN."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._columns: dict[str, NDArray[np.float64]] = {}
        self.errors: dict[int, str] = {}

    def put(self, row: int, values: Mapping[str, float | None] | None, error: str | None) -> None:
        """Fills a row, or notes its error."""
        if error is not None:
            self.errors[row] = error
        for name, value in (values or {}).items():
            if name not in self._columns:
                self._columns[name] = np.full(self._count, math.nan)
            self._columns[name][row] = math.nan if value is None else value

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """The columns: the standard ones in their order, then those of classes and others by name."""
        order = [q.column for q in standard()]
        others = sorted(set(self._columns) - set(order))
        empty = {name for name in SOME_RUNS if name not in self._columns or bool(np.isnan(self._columns[name]).all())}
        order = [name for name in order if name not in empty]
        return {name: self._columns.get(name, np.full(self._count, math.nan)) for name in (*order, *others)}
