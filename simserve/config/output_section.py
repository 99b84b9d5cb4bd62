"""The sections of an experiment that say which requests count and what is written."""

from __future__ import annotations

from pydantic import Field, StrictBool

from simserve.bounds import MOST_S
from simserve.config.section import Section


class MetricsSection(Section):
    """Which requests count. Requests outside are simulated and left out of the latency metrics."""

    warmup_s: float = Field(default=0.0, ge=0, le=MOST_S, description="Requests released in the first so many seconds are left out.")
    cooldown_s: float = Field(default=0.0, ge=0, le=MOST_S, description="Requests released in the last so many seconds are left out.")


class OutputSection(Section):
    """What is written besides summary.json, requests.parquet and experiment.resolved.yaml."""

    plots: StrictBool = Field(default=True, description="plots/*.png")
    report: StrictBool = Field(default=True, description="report.html, self-contained.")
    timeline: StrictBool = Field(default=False, description="timeline.json for Perfetto.")
    steps: StrictBool = Field(default=False, description="steps.parquet, one row for each engine step.")
