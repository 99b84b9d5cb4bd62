"""Names as codes."""

from __future__ import annotations

from simserve.errors import TraceError
from simserve.workload.columns import MOST_NAMES, Labels
from simserve.workload.source import Source


def encode_names(source: Source, column: str, texts: list[str], most: int = MOST_NAMES) -> Labels:
    """Names as codes in order of first appearance. Raises TraceError for more different ones than `most`."""
    labels = Labels.of(texts)
    if len(labels.names) > most:
        raise TraceError(f"{source.path}: column '{column}' has {len(labels.names)} different values; names are expected, not free text")
    return labels
