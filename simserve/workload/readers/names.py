"""Names as codes."""

from __future__ import annotations

import numpy as np

from simserve.errors import TraceError
from simserve.workload.requests import Labels
from simserve.workload.source import Source


def encode_names(source: Source, column: str, texts: list[str]) -> Labels:
    """Names as codes in order of first appearance. Raises TraceError for more different ones than a column of names has."""
    number: dict[str, int] = {}
    codes = np.array([number.setdefault(t, len(number)) for t in texts], dtype=np.int64)
    if len(number) > np.iinfo(np.int16).max:
        raise TraceError(f"{source.path}: column '{column}' has {len(number)} different values; names are expected, not free text")
    return Labels(codes.astype(np.int16), tuple(number))
