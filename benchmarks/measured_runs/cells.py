"""Values from cells that may be missing."""

from __future__ import annotations

import math
from typing import Any


def text(cell: Any) -> str:
    """A cell's text, '' when it is missing."""
    return "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else str(cell)


def number(cell: Any) -> float | None:
    """A cell's number; None when it is missing, -1 (the tables' mark for 'not stated') or not finite."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


def seconds(row: Any, **columns: str) -> dict[str, float]:
    """Metrics from milliseconds in columns of a row: metric -> column. Missing and zero values are left out."""
    found = {metric: number(row[column]) for metric, column in columns.items()}
    return {metric: value / 1000.0 for metric, value in found.items() if value}
