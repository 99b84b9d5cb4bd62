"""A result read back from its directory."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import OutputError
from simserve.report import files

if TYPE_CHECKING:
    import pandas as pd


class StoredResult:
    """What a finished run left in a directory. Raises OutputError when the directory does not hold one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._summary = files.read_summary(directory)

    def summary_dict(self) -> dict[str, Any]:
        """The content of summary.json."""
        return self._summary

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self._summary["name"])

    @property
    def experiment(self) -> dict[str, Any]:
        """The resolved experiment."""
        experiment: dict[str, Any] = self._summary["experiment"]
        return experiment

    @cached_property
    def summary(self) -> pd.DataFrame:
        """As Result.summary."""
        from simserve.report.frames import summary_frame

        return summary_frame(self._summary)

    @cached_property
    def requests(self) -> pd.DataFrame:
        """As Result.requests, from requests.parquet. Raises OutputError when the file is missing or damaged."""
        import pandas as pd
        import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

        path = self.directory / files.REQUESTS
        try:
            return pd.read_parquet(path)
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"{path}: cannot be read: {error}") from error

    def __repr__(self) -> str:
        return f"StoredResult({str(self.directory)!r})"

    def _repr_html_(self) -> str:
        from simserve.report.html import fragment_html

        return fragment_html(self._summary)
