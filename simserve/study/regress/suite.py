"""A regression suite: workloads, policies, the figures that count, and how far each may move."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from simserve.config.section import Section
from simserve.errors import ConfigError
from simserve.files import messages, yaml_text
from simserve.files.yaml_text import Document
from simserve.study.base import Base
from simserve.study.predicate import parse_quantity
from simserve.study.prepare import seeds_from
from simserve.study.quantities import Quantity
from simserve.study.sweep.file import base_of

DEFAULT_KPIS: tuple[tuple[str, str | float], ...] = (
    ("ttft.p50", "5%"),
    ("ttft.p99", "10%"),
    ("tpot.p99", "5%"),
    ("throughput.output_tokens", "3%"),
    ("completed", 0.0),
)


class WorkloadEntry(Section):
    """One workload of a suite."""

    experiment: str | dict[str, Any] = Field(description="A YAML file, a bundled experiment, or the experiment itself.")
    set: dict[str, Any] = Field(default_factory=dict, description="Changes by dotted key.")


class KpiEntry(Section):
    """A figure that counts."""

    metric: str = Field(description="As in a predicate: ttft.p99, goodput, classes.chat.tpot.p90.")
    tolerance: float | str = Field(
        default="5%",
        description="How much worse it may get: a fraction of the baseline (5%), or an absolute amount in the figure's own unit.",
    )
    worse: Literal["higher", "lower", "any"] | None = Field(
        default=None, description="Which way is worse. Default: by the figure (latencies higher, rates lower)."
    )


class SuiteFile(Section):
    """Workloads times policies, with recorded baselines."""

    name: str | None = Field(default=None, description="Default: the file's name.")
    description: str = Field(default="", description="What the suite guards, for people.")
    workloads: dict[str, WorkloadEntry] = Field(min_length=1, description="Workloads by name.")
    policies: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Changes by dotted key, by name of the policy; each goes with every workload."
    )
    kpis: list[KpiEntry] = Field(
        default_factory=lambda: [KpiEntry(metric=metric, tolerance=tolerance) for metric, tolerance in DEFAULT_KPIS],
        min_length=1,
        description="The figures that count.",
    )
    seeds: list[int] | int = Field(default=5, description="Seeds, or how many from 0 on. Baseline and check use the same (paired).")
    strict: bool = Field(default=False, description="A figure whose confidence interval reaches out of the band fails too.")
    baseline: str | None = Field(default=None, description="File with the baselines. Default: <suite>.baseline.json beside the suite.")


@dataclass(frozen=True, slots=True)
class Kpi:
    """A figure, how much worse it may get (relative to the baseline's mean, or absolute), and which way worse is."""

    quantity: Quantity
    tolerance: float
    relative: bool
    worse: Literal["higher", "lower", "any"]

    def band(self) -> str:
        """The tolerance in words."""
        if self.tolerance == 0:
            return "none"
        sign = {"higher": "+", "lower": "-", "any": "±"}[self.worse]
        return f"{sign}{100 * self.tolerance:g} %" if self.relative else f"{sign}{self.tolerance:g}"


@dataclass(frozen=True, slots=True)
class Case:
    """One workload under one policy."""

    name: str
    base: Base


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite, checked."""

    name: str
    path: Path
    baseline: Path
    cases: tuple[Case, ...]
    kpis: tuple[Kpi, ...]
    seeds: tuple[int, ...]
    strict: bool


def load_suite(path: str | Path) -> Suite:
    """The suite in a YAML file. Raises ConfigError listing every mistake."""
    file = Path(path)
    document = yaml_text.read(file)
    section, mistakes = messages.check(SuiteFile, document.data, document)
    messages.fail(document.source, mistakes)
    assert isinstance(section, SuiteFile)
    folder = file.resolve().parent
    cases = []
    for workload, entry in section.workloads.items():
        base = base_of(entry.experiment, entry.set, folder, document)
        for policy, changes in (section.policies or {"": {}}).items():
            merged = (*base.changes, *changes.items())
            cases.append(Case(f"{workload}/{policy}" if policy else workload, replace(base, changes=merged)))
    kpis = tuple(_kpi(document, number, entry) for number, entry in enumerate(section.kpis))
    if isinstance(section.seeds, int):
        seeds = seeds_from(0, None, section.seeds)
    else:
        seeds = seeds_from(0, section.seeds, None)
    baseline = folder / section.baseline if section.baseline else file.with_name(f"{file.name.split('.')[0]}.baseline.json")
    return Suite(section.name or file.name.split(".")[0], file, baseline, tuple(cases), kpis, seeds, section.strict)


def _kpi(document: Document, number: int, entry: KpiEntry) -> Kpi:
    try:
        quantity = parse_quantity(entry.metric)
    except ConfigError as error:
        raise ConfigError(str(messages.at(document, ("kpis", number, "metric"), str(error)))) from None
    text = str(entry.tolerance).strip()
    relative = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100 if relative else 1)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        found = f"found {yaml_text.kind_of(entry.tolerance)}, expected a fraction such as 5%, or a number >= 0 in the figure's unit"
        raise ConfigError(str(messages.at(document, ("kpis", number, "tolerance"), found)))
    return Kpi(quantity, value, relative, entry.worse or ("higher" if quantity.more_is_worse else "lower"))
