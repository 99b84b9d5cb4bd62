"""Vidur's files (microsoft/vidur): num_prefill_tokens and num_decode_tokens; its trace replays also have arrived_at, in seconds."""

from __future__ import annotations

from simserve.workload.readers.columns import MOST_TOKENS, ReadOptions, TraceColumns
from simserve.workload.readers.csv_table import CsvTable
from simserve.workload.source import Source

COLUMNS = ("num_prefill_tokens", "num_decode_tokens")
TIMES = "arrived_at"
_DERIVED = ("num_total_tokens", "pd_ratio")


def read(source: Source, options: ReadOptions) -> TraceColumns:
    """Lengths, and times where there are any: without, an arrival process must be given. Raises TraceError with the line of a mistake."""
    table = CsvTable(source, (*COLUMNS, TIMES), COLUMNS)
    arrival, times_in = table.times(TIMES, options) if TIMES in table else (None, None)
    prompt, output = (table.integers(name, maximum=MOST_TOKENS) for name in COLUMNS)
    unused, remarks = table.left_over(_DERIVED)
    return TraceColumns(
        arrival, prompt, output, times_in=times_in, evidence=("columns " + ", ".join(COLUMNS),), unused=unused, remarks=remarks
    )
