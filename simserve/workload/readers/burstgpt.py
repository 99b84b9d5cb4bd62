"""BurstGPT (HPMLL/BurstGPT, arXiv 2401.17644): v1 and v2 have 6 columns, v3 adds `Session ID` and `Elapsed time`.

Timestamps are seconds of local time; `Response tokens` 0 is a request that failed.
"""

from __future__ import annotations

import numpy as np

from simserve.workload.readers.columns import MOST_TOKENS, ReadOptions, TraceColumns
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.source import Source

COLUMNS = ("Timestamp", "Model", "Request tokens", "Response tokens", "Log Type")
KNOWN_BY = ("Timestamp", "Request tokens", "Response tokens")
_DERIVED = ("Total tokens",)


def read(source: Source, options: ReadOptions) -> TraceColumns:
    """Columns of a BurstGPT file of any release. Raises TraceError with the line of the first mistake."""
    numeric = ("Timestamp", "Request tokens", "Response tokens", "Elapsed time")
    table = CsvTable(source, numeric, COLUMNS)
    session = None
    if "Session ID" in table:
        codes, names = table.codes("Session ID")
        # API rows have no session: an empty id is -1, the others are numbered by first appearance.
        number = np.cumsum([bool(name) for name in names]) - 1
        session = np.where(np.array([bool(name) for name in names])[codes], number[codes], -1).astype(np.int64)
    arrival, times_in = table.times("Timestamp", options)
    prompt, output = (table.integers(name, maximum=MOST_TOKENS) for name in ("Request tokens", "Response tokens"))
    elapsed = table.floats("Elapsed time", empty=np.nan) if "Elapsed time" in table else None
    models, kinds = table.labels("Model"), table.labels("Log Type")
    unused, remarks = table.left_over(_DERIVED)
    return TraceColumns(
        arrival_s=arrival,
        prompt_tokens=prompt,
        output_tokens=output,
        elapsed_s=elapsed,
        session=session,
        label_model=models,
        log_type=kinds,
        times_in=times_in,
        evidence=("columns " + ", ".join(KNOWN_BY),),
        unused=unused,
        remarks=remarks,
    )
