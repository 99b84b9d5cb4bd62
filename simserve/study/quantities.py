"""The numbers of a run that studies record, test and plot, by the names people type: `ttft.p99`, `goodput`, `classes.chat.tpot.p90`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simserve.catalogue import BY_CLASS, FIGURES, METRICS
from simserve.errors import ConfigError, nearest
from simserve.report.metrics import ALL_CLASSES, Measurement, class_masks
from simserve.report.rows import STATS

if TYPE_CHECKING:
    from simserve.engine.records import F64
    from simserve.report.result import Result

LATENCIES = {metric.quantity: metric for metric in METRICS}
"""Latency metrics by the name in a predicate."""

_PERCENTILE = re.compile(r"p(\d{1,2})(?:_(\d+))?\Z")


class Scalar(NamedTuple):
    """A quantity without percentiles: its column, how it is read from (run, class), whether more of it is worse."""

    column: str
    read: Callable[[Result, str], Any]
    more_is_worse: bool
    by_class: bool = False


def _at(*path: str) -> Callable[[Result, str], Any]:
    def read(result: Result, slo_class: str) -> Any:
        node: Any = result.figures
        for key in path:
            node = node.get(slo_class if key == BY_CLASS else key) if isinstance(node, Mapping) else None
        return node

    return read


def _completed_fraction(result: Result, slo_class: str) -> float | None:
    counts = result.figures["requests"]
    return counts["completed"] / counts["total"] if counts["total"] else None


def _failed_in_trace(result: Result, slo_class: str) -> int:
    """Rows without output tokens: the trace says that they failed at their source, so no load and no policy completes them."""
    return int((result.records.table.output_tokens == 0).sum())


def _arrival_period_s(result: Result, slo_class: str) -> float | None:
    """Seconds from the first release to the last."""
    released_s = result.records.requests.released_s
    released_s = released_s[~np.isnan(released_s)]
    return float(released_s.max() - released_s.min()) if len(released_s) else None


_COMPUTED = {"completed": _completed_fraction, "failed.in_trace": _failed_in_trace, "arrivals.period": _arrival_period_s}
"""Quantities that no place in the summary holds."""

SCALARS = {
    figure.quantity: Scalar(
        figure.column, _at(*figure.path) if figure.path else _COMPUTED[figure.quantity], figure.better == "lower", figure.by_class
    )
    for figure in FIGURES
    if figure.quantity
}
"""Quantities without percentiles by the name in a predicate. `completed` is a fraction of all requests, `rejected` and so on are counts;
`measured` counts the completed requests that the latencies are of, those released in the measured window."""


class Quantity(NamedTuple):
    """One number of a run. `stat` is mean, max or a percentile (`p99`, `p99_9` for 99.9) of a latency, "" for the others."""

    name: str
    stat: str = ""
    slo_class: str = ALL_CLASSES

    @property
    def text(self) -> str:
        """As it is typed in a predicate."""
        name = f"{self.name}.{self.stat}" if self.stat else self.name
        if self.slo_class == ALL_CLASSES:
            return name
        return f"classes.{self.slo_class}.{name}" if self.slo_class.isidentifier() else f'classes["{self.slo_class}"].{name}'

    @property
    def column(self) -> str:
        """Its column in tables, with its unit: `ttft_p99_s`, `chat.goodput_per_s`."""
        prefix = "" if self.slo_class == ALL_CLASSES else f"{self.slo_class}."
        if self.name in SCALARS:
            return prefix + SCALARS[self.name].column
        return f"{prefix}{self.name}_{self.stat}_{LATENCIES[self.name].unit_in_names}"

    @property
    def more_is_worse(self) -> bool:
        """True of latencies and losses, False of rates."""
        return SCALARS[self.name].more_is_worse if self.name in SCALARS else LATENCIES[self.name].more_is_worse


def quantity(name: str, stat: str = "", slo_class: str = ALL_CLASSES) -> Quantity:
    """The quantity of that name. Raises ConfigError naming what is allowed."""
    full = f"{name}.{stat}" if stat else name
    if full in SCALARS:
        if slo_class != ALL_CLASSES and not SCALARS[full].by_class:
            per_class = [*LATENCIES, *(key for key, scalar in SCALARS.items() if scalar.by_class)]
            raise ConfigError(f"'{full}' exists for all requests together only; by class there are {', '.join(sorted(per_class))}")
        return Quantity(full, "", slo_class)
    if name in LATENCIES:
        if stat in STATS or _PERCENTILE.match(stat):
            return Quantity(name, stat, slo_class)
        found = f"'{name}.{stat}'" if stat else f"'{name}' alone"
        raise ConfigError(f"{found} is not a number: write {name}.mean, {name}.max or a percentile ({name}.p99; {name}.p99_9 is 99.9)")
    allowed = [*SCALARS, *(f"{latency}.p99" for latency in LATENCIES)]
    raise ConfigError(f"unknown quantity '{full}'{nearest(full, allowed)} (any percentile of the latencies)")


SOME_RUNS = frozenset(
    [
        *(figure.column for figure in FIGURES if figure.speculative or figure.path[:1] == ("scaling",)),
        *(f"{m.quantity}_{stat}_{m.unit_in_names}" for m in METRICS if m.speculative for stat in STATS),
    ]
)
"""Columns of tables that only runs with speculative decoding fill, or that scale: tables without any leave them out."""


SCALED = ("usd", "device_hours", "idle_device_hours", "booting_device_hours", "slo_missed", "slo_missed_fraction", "cold_wait_max_s")
"""Columns that tables show of runs in which instances start."""


def standard(classes: tuple[str, ...] = ()) -> tuple[Quantity, ...]:
    """What every row of a sweep holds: all latencies and scalars, and latencies, attainment and goodput of single classes."""
    rows = [Quantity(name, stat) for name in LATENCIES for stat in STATS]
    rows += [Quantity(name) for name in SCALARS]
    for slo_class in classes:
        rows += [Quantity(name, stat, slo_class) for name in LATENCIES for stat in STATS]
        rows += [Quantity(name, "", slo_class) for name, scalar in SCALARS.items() if scalar.by_class]
    return tuple(rows)


def value_of(result: Result, wanted: Quantity) -> float | None:
    """The quantity's value in a run; None where it is not defined. Raises ConfigError for a class that the workload does not have."""
    figures = result.figures
    slo_class = _known_class(result.measurement, wanted.slo_class)
    if wanted.name in SCALARS:
        value = SCALARS[wanted.name].read(result, slo_class)
    elif wanted.stat in STATS:
        value = figures["latency"][slo_class].get(LATENCIES[wanted.name].name, {}).get(wanted.stat)
    else:
        value = _percentile(result.measurement, slo_class, wanted)
    return None if value is None or not math.isfinite(value) else float(value)


def classes_of(result: Result) -> tuple[str, ...]:
    """The SLO classes with figures of their own: those that occur, where there are several."""
    return tuple(name for name in class_masks(result.records) if name != ALL_CLASSES)


def _known_class(m: Measurement, wanted: str) -> str:
    if wanted in m.latency:
        return wanted
    classes = m.records.table.slo_class
    used = {classes.names[code] for code in np.unique(classes.codes)}
    if wanted in used:
        return ALL_CLASSES  # the only class: its figures are those of all requests
    raise ConfigError(f"no request of the workload is of the SLO class '{wanted}'{nearest(wanted, used)}")


def _percentile(m: Measurement, slo_class: str, wanted: Quantity) -> float:
    """A percentile that the summary does not hold, by the same definition (inverted_cdf, see report.quantiles)."""
    match = _PERCENTILE.match(wanted.stat)
    assert match is not None
    fraction = float(f"{match[1]}.{match[2] or 0}") / 100
    rows = class_masks(m.records)[slo_class] & m.in_window
    metric = LATENCIES[wanted.name]
    if metric.name not in m.latency[slo_class]:
        return math.nan
    if metric.over != "request":
        pieces = list(m.gaps.weighted(rows, metric.over == "emission"))
        values = np.concatenate([values for values, _ in pieces])
        weights = np.concatenate([weights for _, weights in pieces]).astype(np.float64)
    else:
        values = m.requests.column(metric.name)[rows]
        values = values[~np.isnan(values)]
        weights = np.ones(len(values))
    return _weighted_quantile(values, weights, fraction)


def _weighted_quantile(values: F64, weights: F64, fraction: float) -> float:
    order = np.argsort(values, kind="stable")
    up_to = np.cumsum(weights[order])
    if not len(up_to) or up_to[-1] == 0:
        return math.nan
    rank = max(1.0, math.ceil(fraction * up_to[-1]))
    return float(values[order[int(np.searchsorted(up_to, rank))]])
