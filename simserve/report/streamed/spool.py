"""requests.parquet, written while a run goes on: a row group for some pieces, under another name until the run is over."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import OutputError
from simserve.report.streamed.sample import even

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

_GROUP_ROWS = 1 << 17
"""Rows of a row group: some 25 MB in memory, and a footer of 80 groups at ten million requests."""

_SAMPLE_ROWS = 1 << 16
"""Rows that are kept for plots: more than a plot can show."""


class RequestSpool:
    """Writes tables of requests (`request_file.request_table`) to `path` one after the other, and keeps a sample: every so-manyth row.

    In a `with` block that is left by an exception, what has been written is a whole file of fewer requests, or none. `path` None: a
    temporary place, which goes away with this object. Raises OutputError where the place cannot be written: what was there is removed.
    """

    def __init__(self, path: Path | None) -> None:
        if path is None:
            folder = tempfile.mkdtemp(prefix="simserve-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder) / "requests.parquet"
        self.path = path
        self._writer: Any = None
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._sample: list[pa.Table] = []
        self.rows = 0
        self.every = 1
        """The sample is of every so-manyth row."""

    def __enter__(self) -> RequestSpool:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def add(self, table: pa.Table) -> None:
        """The next requests."""
        self._keep(table)
        self._pending.append(table)
        self._pending_rows += len(table)
        self.rows += len(table)
        if self._pending_rows >= _GROUP_ROWS:
            self._flush()

    def _keep(self, table: pa.Table) -> None:
        import pyarrow as pa

        self._sample.append(even(table, -self.rows % self.every, self.every))
        if sum(len(part) for part in self._sample) > _SAMPLE_ROWS:
            self.every *= 2
            whole = pa.concat_tables(self._sample).unify_dictionaries()
            self._sample = [even(whole, 0, 2)]

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

        table = pa.concat_tables([part.unify_dictionaries() for part in self._pending]).unify_dictionaries()
        self._pending, self._pending_rows = [], 0  # before they are written: a signal comes out of the writer when it has written them
        try:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self.path, table.schema, compression="zstd", store_schema=True)
            self._writer.write_table(table, row_group_size=1 << 20)
        except OSError as error:
            self._discard()
            raise self._unwritten(error) from error

    def close(self) -> None:
        """What has been added is a whole file from now on. Where that fails there is none: without its footer nothing reads it."""
        try:
            if self._pending:
                self._flush()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        except BaseException as problem:
            self._discard()
            if isinstance(problem, OSError):
                raise self._unwritten(problem) from problem
            raise

    def _discard(self) -> None:
        """Removes a file that cannot be finished."""
        writer, self._writer = self._writer, None
        try:
            with suppress(OSError):
                if writer is not None:
                    writer.close()
        finally:  # whatever signal comes while it is closed
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _unwritten(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be written: {os.strerror(error.errno) if error.errno else error}")

    def sample(self) -> pd.DataFrame:
        """Every `every`th request."""
        import pyarrow as pa

        frame: pd.DataFrame = pa.concat_tables(self._sample).unify_dictionaries().to_pandas()
        return frame
