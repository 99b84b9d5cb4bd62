"""Vidur's length files (microsoft/vidur): num_prefill_tokens,num_decode_tokens and no arrivals."""

from __future__ import annotations

from simserve.workload.readers.columns import TraceColumns
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.source import Source

COLUMNS = ("num_prefill_tokens", "num_decode_tokens")


def sniff(first_line: str) -> bool:
    return "num_prefill_tokens" in first_line


def read(source: Source) -> TraceColumns:
    """Lengths; `arrival_s` is None, so an arrival process must be given. Raises TraceError with the line of a mistake."""
    table = CsvTable(source, COLUMNS, COLUMNS)
    return TraceColumns(None, table.integers(COLUMNS[0]), table.integers(COLUMNS[1]))
