"""The requests that plots of a run in pieces are drawn from: every so-manyth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simserve.report.arrow import column

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]


def even(table: pa.Table, first: int, every: int) -> pa.Table:
    """Every so-manyth row of a table, from a row on."""
    return table if every == 1 else table.take(column(np.arange(first, len(table), every, dtype=np.int64)))


def drawn_from(every: int) -> str:
    """What is said beside the plots of every so-manyth request."""
    of = f"every {every}th request" if every > 1 else "all requests"
    return f"Drawn from {of}. Plots of steps and single tokens need a run that is recorded whole (stream_above)."


def sampled(path: Path, every: int) -> pd.DataFrame:
    """Every so-manyth request of a file, from the first, in memory of as many. Raises OSError and ArrowException."""
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

    parts, rows = [], 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            table = pa.Table.from_batches([batch])
            parts.append(even(table, -rows % every, every))
            rows += len(table)
        whole = pa.concat_tables(parts) if parts else file.schema_arrow.empty_table()
    frame: pd.DataFrame = whole.unify_dictionaries().to_pandas()
    return frame
