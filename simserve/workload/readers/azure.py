"""Azure LLM inference traces 2023 (Splitwise), 2024 (DynamoLLM) and 2025 (multimodal, ModServe), of Azure/AzurePublicDataset.

TIMESTAMP, ContextTokens, GeneratedTokens; times of 2024 carry a zone offset; 2025 adds NumImages.
"""

from __future__ import annotations

from simserve.workload.readers.columns import MOST_TOKENS, ReadOptions, TraceColumns
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.source import Source

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def read(source: Source, options: ReadOptions) -> TraceColumns:
    """Columns of an Azure trace; the wall clock becomes seconds of the first row's day. Raises TraceError with the line of a mistake."""
    table = CsvTable(source, COLUMNS[1:], COLUMNS, dates=COLUMNS[:1])
    arrival = table.dates("TIMESTAMP")
    prompt, output = (table.integers(name, maximum=MOST_TOKENS) for name in COLUMNS[1:])
    unused, remarks = table.left_over()
    return TraceColumns(
        arrival, prompt, output, times_in="dates", evidence=("columns " + ", ".join(COLUMNS),), unused=unused, remarks=remarks
    )
