"""`Result`: a run, measured. What `simserve.run` returns and what `simserve run` writes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.engine.records import RunRecords
from simserve.report import files
from simserve.report.metrics import Measurement, measure
from simserve.report.slo import normalize_limits
from simserve.report.summary import Beside, Said, figures_of, headlines_of, said_of, summarise, to_json_types
from simserve.uncertainty.belief import Belief
from simserve.uncertainty.facts import Facts
from simserve.uncertainty.run import belief_of

if TYPE_CHECKING:
    import pandas as pd

    from simserve.report.plots.run import Plots
    from simserve.report.stored import StoredResult


class Result:
    """The outcome of one run.

    records     what the engine recorded
    experiment  the resolved experiment (JSON types): re-runs it exactly
    slo         class -> limit -> seconds, or one mapping of limits for all classes, or None. Limits: ttft_s, tpot_s, e2e_s, queueing_s,
                normalized_latency_s_per_token, itl_s (every gap of the request), itl_p99_s (any percentile of its gaps)
    warmup_s, cooldown_s  seconds at the beginning and the end of the run that are not measured
    name        of the run; taken from the experiment when not given

    Raises ConfigError for an SLO that makes no sense.
    """

    in_pieces = False
    """Whether the requests left while the run went on, and lie in a file."""

    def __init__(
        self,
        records: RunRecords,
        experiment: Mapping[str, Any] | None = None,
        slo: Mapping[str, Any] | None = None,
        *,
        warmup_s: float = 0.0,
        cooldown_s: float = 0.0,
        name: str | None = None,
    ) -> None:
        self.records = records
        self.experiment = dict(experiment or {})
        self.name = name or str(self.experiment.get("name", "run"))
        self.slo = normalize_limits(slo)
        self._cuts = (warmup_s, cooldown_s)
        self.intervals: Mapping[str, Any] | None = None
        """Bands on the headlines, from repeated draws of the operators' errors; set before the summary is asked for."""
        self.energy: Mapping[str, Any] | None = None
        """Joules of the run (`report.energy.run_energy`), where the hardware profiles have figures; set likewise."""
        self.money: Mapping[str, Any] | None = None
        """What the run cost (`report.money.run_money`), where the devices have prices; set likewise."""
        self.experts: Mapping[str, Any] | None = None
        """Expert weights read (`report.energy.run_experts`), where all instances serve a model with experts; set likewise."""
        self.facts: Facts | None = None
        """What its belief rests on; None in studies, whose runs have none. Set likewise."""
        self.notes: tuple[str, ...] = ()
        """Sentences about the experiment as it was written, for the summary's warnings; set likewise."""

    @cached_property
    def measurement(self) -> Measurement:
        """The metrics as columns and statistics; computed on first use."""
        return measure(self.records, self.slo, *self._cuts)

    @cached_property
    def _said(self) -> Said:
        return said_of(self.measurement)

    @property
    def _beside(self) -> Beside:
        return Beside(self.intervals, self.energy, self.experts, self.money, self.notes)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        found = summarise(self._said, self.figures, self.records, self.experiment, self.name, self._beside)
        belief = self.uncertainty
        return found | ({} if belief is None else {"uncertainty": to_json_types(belief.as_dict())})

    @cached_property
    def uncertainty(self) -> Belief | None:
        """How far to believe the run: its label, and an 80 % interval of each headline (docs/intervals.md). None of a study's runs."""
        return None if self.facts is None else belief_of(self.facts, headlines_of(self._said, self.records))

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The parts of the summary that hold figures, as they were computed; NaN for what is not defined. Runs of studies need no more."""
        return figures_of(self._said, self.records, self.experiment, self._beside)

    def summary_dict(self) -> dict[str, Any]:
        """What summary.json holds, in JSON types: None for what is not defined."""
        return self._summary

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Latency statistics: one row per metric and SLO class (column `slo_class`, "all" first), indexed by metric."""
        from simserve.report.frames import summary_frame

        return summary_frame(self.summary_dict())

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row per request; the columns of requests.parquet (see request_file.REQUEST_COLUMNS)."""
        from simserve.report.frames import request_frame

        return request_frame(self.measurement)

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row per engine step (see step_file.STEP_COLUMNS)."""
        from simserve.report.frames import step_frame

        return step_frame(self.records)

    @cached_property
    def scaling(self) -> pd.DataFrame:
        """What controllers decided, how instances started and nodes came and went: one row an event (see scaling.log.SCALING_COLUMNS). No
        rows where nothing scales."""
        from simserve.report.scaling.log import scaling_table

        frame: pd.DataFrame = scaling_table(self.records, self.experiment).to_pandas()
        return frame

    @property
    def plot(self) -> Plots:
        """Plots of the run: each method returns matplotlib axes."""
        from simserve.report.plots.run import Plots

        return Plots(self.measurement)

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
        """Write the result's files into a directory (created; it must be empty unless `force`) and return its path.

        Always: experiment.resolved.yaml, requests.parquet, summary.json; scaling.parquet of a run that scales. On demand: steps.parquet,
        timeline.json (Perfetto), plots/*.png, report.html (which holds its plots itself). Raises OutputError.
        """
        out = Path(directory)
        files.make_directory(out, force)
        files.write_yaml(out / files.EXPERIMENT, self.experiment)
        self._write_requests(out)
        if steps:
            from simserve.report.step_file import write_steps

            files.write_whole(out / files.STEPS, lambda part: write_steps(self.records, part))
        if self.records.scaling is not None:
            from simserve.report.scaling.log import write_scaling

            files.write_whole(out / files.SCALING, lambda part: write_scaling(self.records, self.experiment, part))
        if timeline:
            from simserve.report.perfetto.timeline import write_timeline

            files.write_whole(out / files.TIMELINE, lambda part: write_timeline(self.records, part))
        if plots or report:
            self._write_pictures(out, plots, report)
        files.write_json(out / files.SUMMARY, self.summary_dict())
        return out

    def draw(self, directory: str | Path, *, plots: bool = True, report: bool = True) -> None:
        """Write plots and report into the directory of a result that was written without them. Raises OutputError."""
        self._write_pictures(Path(directory), plots, report)

    def _write_requests(self, out: Path) -> None:
        from simserve.report.request_file import write_requests

        files.write_whole(out / files.REQUESTS, lambda part: write_requests(self.measurement, part))

    def _write_pictures(self, out: Path, plots: bool, report: bool) -> None:
        from simserve.report.html import run_html
        from simserve.report.page import pictures

        drawn = pictures(self.plot.figures(), even=True)
        if plots:
            (out / files.PLOTS).mkdir(exist_ok=True)
            for picture in drawn:
                write_bytes(out / files.PLOTS / f"{picture.name}.png", picture.png)
        if report:
            write_bytes(out / files.REPORT, run_html(self.summary_dict(), drawn).encode())

    @staticmethod
    def read(directory: str | Path) -> StoredResult:
        """The result that lies in a directory: its summary, and its requests on demand. Raises OutputError."""
        from simserve.report.stored import StoredResult

        return StoredResult(Path(directory))

    def __repr__(self) -> str:
        counts = self.summary_dict()["requests"]
        return f"Result({self.name!r}: {counts['completed']} of {counts['total']} requests completed, {self.records.end_s:.6g} s simulated)"

    def _repr_html_(self) -> str:
        from simserve.report.html import fragment_html

        return fragment_html(self.summary_dict())


def write_bytes(path: Path, content: bytes) -> None:
    """The file with this content, whole or not at all. Raises OutputError."""
    files.write_whole(path, lambda part: part.write_bytes(content))
