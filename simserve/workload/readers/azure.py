"""Azure LLM inference trace 2023 (Azure/AzurePublicDataset, Splitwise, ISCA 2024): TIMESTAMP,ContextTokens,GeneratedTokens."""

from __future__ import annotations

from simserve.workload.readers.columns import TraceColumns
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.source import Source

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def sniff(first_line: str) -> bool:
    return first_line.startswith("TIMESTAMP,ContextTokens")


def read(source: Source) -> TraceColumns:
    """Columns of an Azure trace; the wall clock becomes seconds of the first row's day. Raises TraceError with the line of a mistake."""
    table = CsvTable(source, COLUMNS[1:], COLUMNS, timestamps=COLUMNS[:1])
    return TraceColumns(table.seconds("TIMESTAMP"), table.integers("ContextTokens"), table.integers("GeneratedTokens"))
