"""Every figure of a run, from its records. Definitions and formulas: docs/metrics.md. NumPy only; nothing here visits single tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simserve.catalogue import METRICS
from simserve.engine.records import RunRecords, Status
from simserve.report.columns import RequestMetrics, request_metrics
from simserve.report.drafts import speculates
from simserve.report.itl import TokenGaps, tokens_between
from simserve.report.quantiles import Stats, describe
from simserve.report.saturation import Saturation, saturation
from simserve.report.slo import SloOutcome, judge, limits_of_class
from simserve.report.utilisation import compute_utilisation, count_over_time, instance_use, system_intervals, waiting_intervals
from simserve.report.window import Window, measured_window

Mask = NDArray[np.bool_]

ALL_CLASSES = "all"


@dataclass(frozen=True, slots=True)
class Measurement:
    """A run measured.

    requests   latency columns of all requests
    in_window  requests released in the window: their latencies count
    latency    SLO class (or "all") -> metric -> Stats
    slo        who met the SLO, None when none was stated
    limits     the SLO: class -> limit -> seconds
    """

    records: RunRecords
    window: Window
    requests: RequestMetrics
    gaps: TokenGaps
    in_window: Mask
    latency: dict[str, dict[str, Stats]]
    slo: SloOutcome | None
    limits: Mapping[str, Mapping[str, float]]
    saturation: Saturation


def measure(records: RunRecords, limits: Mapping[str, Mapping[str, float]], warmup_s: float = 0.0, cooldown_s: float = 0.0) -> Measurement:
    """Measure a run. `limits` as `slo.normalize_limits` returns them; the cuts are seconds at the run's beginning and end."""
    window = measured_window(records, warmup_s, cooldown_s)
    gaps = TokenGaps.of(records)
    requests = request_metrics(records, gaps)
    in_window = window.holds(records.requests.released_s)
    speculative = speculates(records)
    latency = {name: _latency(requests, gaps, in_window & rows, speculative) for name, rows in class_masks(records).items()}
    return Measurement(
        records=records,
        window=window,
        requests=requests,
        gaps=gaps,
        in_window=in_window,
        latency=latency,
        slo=judge(records, requests, gaps, limits),
        limits=limits,
        saturation=saturation(records),
    )


def class_masks(records: RunRecords) -> dict[str, Mask]:
    """Rows of "all" and, where the workload has several SLO classes, of each class that occurs, by name."""
    classes = records.table.slo_class
    masks: dict[str, Mask] = {ALL_CLASSES: np.ones(len(records.table), dtype=np.bool_)}
    used = sorted((classes.names[code], code) for code in range(len(classes.names)) if bool((classes.codes == code).any()))
    if len(used) > 1:
        masks.update({name: classes.codes == code for name, code in used})
    return masks


def _latency(requests: RequestMetrics, gaps: TokenGaps, selected: Mask, speculative: bool) -> dict[str, Stats]:
    return {
        metric.name: describe(requests.column(metric.name)[selected])
        if metric.over == "request"
        else gaps.stats(selected, metric.over == "emission")
        for metric in METRICS
        if speculative or not metric.speculative
    }


def request_counts(m: Measurement) -> dict[str, Any]:
    """Requests by how they ended, and the reasons: of what was not served, and notes on what was (a truncated output)."""
    r = m.records.requests
    counts: dict[str, Any] = {"total": len(m.records.table), "in_window": int(m.in_window.sum())}
    counts.update(
        {
            status.name.lower(): int((r.status == status).sum())
            for status in (Status.COMPLETED, Status.REJECTED, Status.FAILED, Status.CANCELLED, Status.UNFINISHED)
        }
    )
    reasons: dict[str, dict[str, int]] = {}
    for status in (Status.REJECTED, Status.FAILED, Status.CANCELLED, Status.COMPLETED):
        number = np.bincount(r.reason[r.status == status], minlength=len(r.reasons))
        reasons[status.name.lower()] = {
            r.reasons[k] or "unstated": int(number[k]) for k in np.flatnonzero(number) if k or status != Status.COMPLETED
        }
    counts["reasons"] = reasons
    return counts


def throughput(m: Measurement) -> dict[str, float]:
    """Rates over the window: what was finished and produced in it, whenever it was released."""
    r, window = m.records.requests, m.window
    seconds = window.length_s
    if seconds == 0:
        return dict.fromkeys(
            ("arrivals_per_s", "requests_per_s", "output_tokens_per_s", "prompt_tokens_per_s", "total_tokens_per_s"), math.nan
        )
    done = (r.status == Status.COMPLETED) & window.holds(r.finish_s)
    output = tokens_between(m.records, m.gaps, window.start_s, window.end_s)
    prompt = int(m.records.table.prompt_tokens[window.holds(r.first_token_s)].sum())
    return {
        "arrivals_per_s": int(m.in_window.sum()) / seconds,
        "requests_per_s": int(done.sum()) / seconds,
        "output_tokens_per_s": output / seconds,
        "prompt_tokens_per_s": prompt / seconds,
        "total_tokens_per_s": (output + prompt) / seconds,
    }


def slo_summary(m: Measurement) -> dict[str, Any] | None:
    """Attainment (fraction of the judged requests) and goodput (requests/s that met everything), overall and by class; None without SLO."""
    if m.slo is None:
        return None
    out: dict[str, Any] = {}
    for name, rows in class_masks(m.records).items():
        rows = rows & m.in_window
        judged, met = int((m.slo.judged & rows).sum()), int((m.slo.met & rows).sum())
        by = {}
        for key in m.slo.met_by:
            stated = int((m.slo.stated_by[key] & rows).sum())
            if stated:
                by[key] = int((m.slo.met_by[key] & rows).sum()) / stated
        out[name] = {
            "limits": _limits(m, name),
            "judged": judged,
            "met": met,
            "missed": judged - met,
            "missed_fraction": (judged - met) / judged if judged else math.nan,
            "attainment": met / judged if judged else math.nan,
            "attainment_by_limit": by,
            "goodput_per_s": met / m.window.length_s if m.window.length_s > 0 else math.nan,
        }
    return out


def _limits(m: Measurement, name: str) -> dict[str, float | None] | None:
    """The limits of a class; of all requests together only when every class has the same."""
    if name != ALL_CLASSES:
        return dict(limits_of_class(m.limits, name))
    of_class = [dict(limits_of_class(m.limits, each)) for each in m.records.table.slo_class.names]
    return of_class[0] if all(each == of_class[0] for each in of_class) else None


def common_limits(m: Measurement) -> dict[str, float]:
    """The limits that hold for every request of the run; empty when its classes have different ones."""
    return {key: value for key, value in (_limits(m, ALL_CLASSES) or {}).items() if value is not None}


def utilisation(m: Measurement) -> dict[str, Any]:
    """Use of compute and memory; `instances` has one entry each, the rest are means over instances (the maximum for kv_used_max)."""
    instances = instance_use(m.records, m.window)
    known = [row for row in instances if not math.isnan(row["busy_fraction"])]

    def mean(key: str) -> float:
        values = [row[key] for row in known if key in row and not math.isnan(row[key])]
        return sum(values) / len(values) if values else math.nan

    return {
        "compute_utilisation": compute_utilisation(m.records),
        "busy_fraction": mean("busy_fraction"),
        "kv_used_mean": mean("kv_used_mean"),
        "kv_used_max": max((row["kv_used_max"] for row in known), default=math.nan),
        "batch_requests_mean": mean("batch_requests_mean"),
        "step_tokens_mean": mean("step_tokens_mean"),
        "step_s_mean": mean("step_s_mean"),
        "instances": instances,
    }


def queues(m: Measurement) -> dict[str, float]:
    """Requests waiting for their first step and requests in the system: time averages and maxima over the window."""
    waiting = count_over_time(*waiting_intervals(m.records), m.window)
    in_system = count_over_time(*system_intervals(m.records), m.window)
    return {"waiting_mean": waiting[0], "waiting_max": waiting[1], "in_system_mean": in_system[0], "in_system_max": in_system[1]}


def preemption(m: Measurement) -> dict[str, int]:
    """Preemptions and what they cost, over the requests released in the window."""
    r = m.records.requests
    return {
        "preemptions": int(r.preemptions[m.in_window].sum()),
        "preempted_requests": int((r.preemptions[m.in_window] > 0).sum()),
        "recomputed_tokens": int(r.recomputed_tokens[m.in_window].sum()),
        "cached_tokens": int(r.cached_tokens[m.in_window].sum()),
        "reread_tokens": int(r.reread_tokens[m.in_window].sum()),
    }
