"""`StreamedResult`: a run whose requests have been written while it went on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import ConfigError, OutputError
from simserve.report import files
from simserve.report.result import Result, write_bytes
from simserve.report.streamed.sample import drawn_from
from simserve.report.streamed.sketch import RELATIVE_ERROR
from simserve.report.streamed.spool import RequestSpool
from simserve.report.summary import Said

if TYPE_CHECKING:
    import pandas as pd

    from simserve.engine.records import RunRecords
    from simserve.report.plots.stored import StoredPlots


class StreamedResult(Result):
    """A result of which the requests lie in a file and the steps are gone: as any other, but for what needs all of them at once.

    records  the run as a whole, without its requests and steps
    said     what was added up of it
    spool    its requests, in a file that `write` moves to where it belongs
    """

    in_pieces = True

    def __init__(self, records: RunRecords, experiment: Mapping[str, Any], said: Said, spool: RequestSpool) -> None:
        super().__init__(records, experiment)
        self._added_up = said
        self._spool = spool
        self._place = spool.path

    @cached_property
    def _said(self) -> Said:
        return self._added_up

    @cached_property
    def _summary(self) -> dict[str, Any]:
        found = super()._summary
        said = (
            f"Recorded in pieces (stream_above): percentiles are within {100 * RELATIVE_ERROR:.2f} % of the exact ones; counts, means, "
            "maxima and requests.parquet are exact."
        )
        streamed = {"quantiles_relative_error": RELATIVE_ERROR, "plotted_every": self._spool.every}
        return found | {"streamed": streamed, "warnings": [*found["warnings"], said]}

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row per request, read from the file: all of them, whatever memory that takes."""
        import pandas as pd

        return pd.read_parquet(self._place)

    @property
    def steps(self) -> pd.DataFrame:
        """Not kept. Raises ConfigError."""
        raise ConfigError(_WITHOUT.format("Steps"))

    @property
    def measurement(self) -> Any:
        """Not kept. Raises ConfigError."""
        raise ConfigError(_WITHOUT.format("Measurements of all requests at once"))

    @property
    def plot(self) -> StoredPlots:  # type: ignore[override]
        """Plots of a sample of the requests: each method returns matplotlib axes."""
        from simserve.report.plots.stored import StoredPlots

        limits = (self.summary_dict()["slo"] or {}).get("all", {}).get("limits") or {}
        shared = {key: value for key, value in limits.items() if value is not None}
        return StoredPlots(self.name, self._spool.sample(), self.records.end_s, shared)

    def write(
        self,
        directory: str | Path,
        *,
        plots: bool = True,
        report: bool = True,
        timeline: bool = False,
        steps: bool = False,
        force: bool = False,
    ) -> Path:
        """As `Result.write`; requests.parquet is moved into the directory. Raises OutputError, and ConfigError for a timeline or steps."""
        if timeline or steps:
            raise ConfigError(_WITHOUT.format("timeline.json" if timeline else "steps.parquet"))
        return super().write(directory, plots=plots, report=report, force=force)

    def _write_requests(self, out: Path) -> None:
        try:
            shutil.move(self._place, out / files.REQUESTS)
        except OSError as error:
            raise OutputError(f"{out / files.REQUESTS}: cannot be written: {error.strerror or error}") from error
        self._place = out / files.REQUESTS

    def _write_pictures(self, out: Path, plots: bool, report: bool) -> None:
        from simserve.report.html import run_html
        from simserve.report.page import pictures
        from simserve.report.plots.run import CAPTIONS

        drawn = pictures(self.plot.figures(CAPTIONS), even=True)
        if plots:
            (out / files.PLOTS).mkdir(exist_ok=True)
            for picture in drawn:
                write_bytes(out / files.PLOTS / f"{picture.name}.png", picture.png)
        if report:
            write_bytes(out / files.REPORT, run_html(self.summary_dict(), drawn, drawn_from(self._spool.every)).encode())


_WITHOUT = "{} of a run recorded in pieces cannot be had: raise stream_above in the experiment to record it whole"
