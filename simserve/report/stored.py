"""A result read back from its directory."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import OutputError
from simserve.report import files
from simserve.report.streamed.sample import drawn_from, sampled

if TYPE_CHECKING:
    import pandas as pd

    from simserve.report.plots.stored import StoredPlots


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
        return self._table(files.REQUESTS)

    @property
    def _plotted_every(self) -> int | None:
        """Of a run in pieces, plots are of every so-manyth request; None of one that was recorded whole."""
        streamed = self._summary.get("streamed")
        return None if streamed is None else int(streamed.get("plotted_every", 1))

    @cached_property
    def scaling(self) -> pd.DataFrame:
        """As Result.scaling, from scaling.parquet. Raises OutputError when the file is missing (nothing scaled) or damaged."""
        return self._table(files.SCALING)

    def _table(self, name: str, every: int = 1) -> pd.DataFrame:
        """Every so-manyth row of a file."""
        import pandas as pd
        import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

        path = self.directory / name
        try:
            return pd.read_parquet(path) if every == 1 else sampled(path, every)
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"{path}: cannot be read: {error}") from error

    @property
    def plot(self) -> StoredPlots:
        """Plots that the files still allow: each method returns matplotlib axes."""
        from simserve.report.plots.stored import StoredPlots

        limits = (self._summary["slo"] or {}).get("all", {}).get("limits") or {}
        shared = {key: value for key, value in limits.items() if value is not None}
        requests = self._table(files.REQUESTS, self._plotted_every) if self._plotted_every else self.requests
        return StoredPlots(self.name, requests, self._summary["window"]["run_s"], shared)

    def report(self) -> tuple[str, str]:
        """(report.html once more, a note on what it lacks or ""): the pictures in plots/, or else those that requests.parquet allows."""
        from simserve.report.html import run_html
        from simserve.report.page import Picture, pictures
        from simserve.report.plots.run import CAPTIONS, SCALING_PLOT

        scales = bool(self._summary.get("scaling"))
        shown = [name for name in CAPTIONS if scales or name != SCALING_PLOT]
        places = {name: self.directory / files.PLOTS / f"{name}.png" for name in shown}
        missing = [name for name, place in places.items() if not place.is_file()]
        drawn = {picture.name: picture for picture in pictures(self.plot.figures(missing))} if missing else {}
        for name, place in places.items():
            if place.is_file():
                drawn[name] = Picture(name, CAPTIONS[name], place.read_bytes())
        lacking = [name.replace("_", " ") for name in shown if name not in drawn]
        note = f"Not here, because {files.PLOTS}/ lacks them and they need the run itself: {', '.join(lacking)}." if lacking else ""
        if self._plotted_every:
            note = drawn_from(self._plotted_every)
        return run_html(self._summary, [drawn[name] for name in shown if name in drawn], note), note

    def __repr__(self) -> str:
        return f"StoredResult({str(self.directory)!r})"

    def _repr_html_(self) -> str:
        from simserve.report.html import fragment_html

        return fragment_html(self._summary)
