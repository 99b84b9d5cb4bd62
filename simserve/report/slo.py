"""Service level objectives: which requests meet them. Limits are per SLO class; a request meets its SLO when it meets every limit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simserve.catalogue import OF_REQUESTS
from simserve.engine.records import F64, RunRecords, Status
from simserve.errors import ConfigError, nearest
from simserve.report.columns import RequestMetrics
from simserve.report.itl import TokenGaps
from simserve.report.itl_average import highest_average_s

Mask = NDArray[np.bool_]
Limits = Mapping[str, Mapping[str, float | None]]

_COLUMN = {metric.name: metric.name for metric in OF_REQUESTS if metric.target} | {"itl_s": "itl_max_s"}
"""Limits of a column: every gap of a request is within a limit when the longest one is."""
_TTFT_BY_PROMPT = "ttft_s_per_prompt_token"
_ITL_PERCENTILE = re.compile(r"itl_p(\d{1,2}(?:\.\d+)?)_s")
_ITL_AVERAGE = re.compile(r"itl_ema([1-9]\d{0,3})_s")

DEFAULT_CLASS = "default"


@dataclass(frozen=True, slots=True)
class SloOutcome:
    """Who met what.

    judged    requests that count: all but those that the trace itself says failed at their source (0 output tokens)
    met       requests that met every limit of their class (never true where judged is false)
    met_by    the same for each limit alone; only requests of classes that state it are judged by it
    stated_by requests judged by each limit
    """

    judged: Mask
    met: Mask
    met_by: dict[str, Mask]
    stated_by: dict[str, Mask]


def normalize_limits(slo: Mapping[str, object] | None) -> dict[str, dict[str, float]]:
    """class -> limit -> seconds, from that shape or from one flat mapping of limits for every class; limits that are None are left out.

    Raises ConfigError for a limit of an unknown name or one that is not a positive number.
    """
    if not slo:
        return {}
    nested = all(isinstance(value, Mapping) for value in slo.values())
    classes: Mapping[str, object] = slo if nested else {DEFAULT_CLASS: slo}
    out: dict[str, dict[str, float]] = {}
    for name, limits in classes.items():
        assert isinstance(limits, Mapping)
        out[name] = {key: _limit(name, key, value) for key, value in limits.items() if value is not None}
    return {name: limits for name, limits in out.items() if limits}


def limits_of_class(limits: Limits, slo_class: str) -> Mapping[str, float | None]:
    """The limits that hold for a class: its own, or those of the class 'default'."""
    return limits.get(slo_class, limits.get(DEFAULT_CLASS, {}))


def judge(records: RunRecords, metrics: RequestMetrics, gaps: TokenGaps, limits: Limits) -> SloOutcome | None:
    """Compare each request with the limits of its class; None when no limit is stated for any class of the workload.

    A request that did not complete meets no limit. A quantity that a completed request does not have (TPOT and ITL of a single token)
    cannot be violated.
    """
    classes = records.table.slo_class
    stated = [limits_of_class(limits, name) for name in classes.names]
    names = sorted({key for of_class in stated for key in of_class})
    if not names:
        return None
    has_slo = np.array([bool(of_class) for of_class in stated])[classes.codes]
    judged = has_slo & (records.table.output_tokens > 0)
    completed = records.requests.status == Status.COMPLETED
    met = judged & completed
    met_by: dict[str, Mask] = {}
    stated_by: dict[str, Mask] = {}
    for name in names:
        per_class = [of_class.get(name) for of_class in stated]
        limit = np.array([math.nan if value is None else value for value in per_class])[classes.codes]
        stated_by[name] = judged & ~np.isnan(limit)
        met_by[name] = stated_by[name] & completed & ~_violates(name, limit, metrics, gaps, records)
        met &= met_by[name] | ~stated_by[name]
    return SloOutcome(judged, met, met_by, stated_by)


def _violates(name: str, limit: F64, metrics: RequestMetrics, gaps: TokenGaps, records: RunRecords) -> Mask:
    if name in _COLUMN:
        violated: Mask = metrics.column(_COLUMN[name]) > limit  # NaN compares false: an undefined quantity violates nothing
        return violated
    if name == _TTFT_BY_PROMPT:
        late: Mask = metrics.column("ttft_s") > limit * records.table.prompt_tokens
        return late
    if average := _ITL_AVERAGE.fullmatch(name):
        slow: Mask = highest_average_s(records, int(average[1])) > limit
        return slow
    # The p-th percentile of n gaps is above the limit exactly when fewer than a fraction p of them are within it.
    fraction = float(name[len("itl_p") : -len("_s")]) / 100
    count = np.maximum(records.requests.generated_tokens - 1, 0)
    within = count - gaps.count_over(limit)
    return within < np.ceil(fraction * count)


def _limit(slo_class: str, key: str, value: object) -> float:
    if key not in (*_COLUMN, _TTFT_BY_PROMPT) and not _ITL_PERCENTILE.fullmatch(key) and not _ITL_AVERAGE.fullmatch(key):
        known = [*_COLUMN, _TTFT_BY_PROMPT, "itl_p99_s", "itl_ema16_s"]
        raise ConfigError(f"slo.{slo_class}: unknown objective '{key}'{nearest(key, known)}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"slo.{slo_class}.{key}: found {value!r}; a positive number of seconds is needed")
    return float(value)
