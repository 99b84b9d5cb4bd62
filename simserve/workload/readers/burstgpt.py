"""BurstGPT (HPMLL/BurstGPT, arXiv 2401.17644): v1 and v2 have 6 columns, v3 adds `Session ID` and `Elapsed time`.

Timestamps are seconds of local time; `Response tokens` 0 is a request that failed.
"""

from __future__ import annotations

import numpy as np

from simserve.workload.readers.columns import TraceColumns
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.source import Source

COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens", "Log Type")


def sniff(first_line: str) -> bool:
    return first_line.startswith("Timestamp,") and "Request tokens" in first_line


def read(source: Source) -> TraceColumns:
    """Columns of a BurstGPT file of any release. Raises TraceError with the line of the first mistake."""
    numeric = ("Timestamp", "Request tokens", "Response tokens", "Elapsed time")
    table = CsvTable(source, numeric, COLUMNS)
    session = None
    if "Session ID" in table:
        codes, names = table.codes("Session ID")
        # API rows have no session: an empty id is -1, the others are numbered by first appearance.
        number = np.cumsum([bool(name) for name in names]) - 1
        session = np.where(np.array([bool(name) for name in names])[codes], number[codes], -1).astype(np.int64)
    return TraceColumns(
        arrival_s=table.floats("Timestamp"),
        prompt_tokens=table.integers("Request tokens"),
        output_tokens=table.integers("Response tokens"),
        elapsed_s=table.floats("Elapsed time", empty=0.0) if "Elapsed time" in table else None,
        session=session,
        label_model=table.labels("Model"),
        log_type=table.labels("Log Type"),
    )
