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
from simserve.report.saturation import UNJUDGED, Saturation, saturation
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


def measure(
    records: RunRecords,
    limits: Mapping[str, Mapping[str, float]],
    warmup_s: float = 0.0,
    cooldown_s: float = 0.0,
    statistics: bool = True,
) -> Measurement:
    """Measure a run. `limits` as `slo.normalize_limits` returns them; the cuts are seconds at the run's beginning and end. Without
    `statistics` there are none of latencies, and nothing is said of saturation: of a piece of a run."""
    window = measured_window(records, warmup_s, cooldown_s)
    gaps = TokenGaps.of(records)
    requests = request_metrics(records, gaps)
    in_window = window.holds(records.requests.released_s)
    latency = {}
    if statistics:
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
        saturation=saturation(records) if statistics else UNJUDGED,
    )


def class_masks(records: RunRecords, single: bool = False) -> dict[str, Mask]:
    """Rows of "all" and, where the workload has several SLO classes (`single`: even where it has one), of each class that occurs, by
    name."""
    classes = records.table.slo_class
    masks: dict[str, Mask] = {ALL_CLASSES: np.ones(len(records.table), dtype=np.bool_)}
    used = sorted((classes.names[code], code) for code in range(len(classes.names)) if bool((classes.codes == code).any()))
    if len(used) > 1 or single:
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
    return rates(produced(m), m.window)


def produced(m: Measurement) -> dict[str, int]:
    """What throughput is of: requests released and completed, tokens given out and taken in, all in the window."""
    r, window = m.records.requests, m.window
    done = (r.status == Status.COMPLETED) & window.holds(r.finish_s)
    return {
        "arrivals": int(m.in_window.sum()),
        "requests": int(done.sum()),
        "output_tokens": 0 if window.empty else tokens_between(m.records, m.gaps, window.start_s, window.end_s),
        "prompt_tokens": int(m.records.table.prompt_tokens[window.holds(r.first_token_s)].sum()),
    }


def rates(of: Mapping[str, int], window: Window) -> dict[str, float]:
    """What was produced (`produced`), a second of the window."""
    seconds = window.length_s
    found = {f"{name}_per_s": count / seconds if seconds else math.nan for name, count in of.items()}
    total = of["output_tokens"] + of["prompt_tokens"]
    return {**found, "total_tokens_per_s": total / seconds if seconds else math.nan}


def slo_summary(m: Measurement) -> dict[str, Any] | None:
    """Attainment (fraction of the judged requests) and goodput (requests/s that met everything), overall and by class; None without SLO."""
    if m.slo is None:
        return None
    counts = {name: slo_counts(m, rows) for name, rows in class_masks(m.records).items()}
    return slo_figures(counts, m.limits, m.records.table.slo_class.names, m.window)


def slo_counts(m: Measurement, rows: Mask) -> dict[str, int]:
    """Of these requests in the window: those judged and those that met everything; of each limit, "+limit" for those it is stated for and
    "=limit" for those that met it."""
    assert m.slo is not None
    rows = rows & m.in_window
    found = {"judged": int((m.slo.judged & rows).sum()), "met": int((m.slo.met & rows).sum())}
    for key in m.slo.met_by:
        found[f"+{key}"] = int((m.slo.stated_by[key] & rows).sum())
        found[f"={key}"] = int((m.slo.met_by[key] & rows).sum())
    return found


def slo_figures(
    counts: Mapping[str, Mapping[str, int]], limits: Mapping[str, Mapping[str, float]], classes: tuple[str, ...], window: Window
) -> dict[str, Any]:
    """The `slo` part of a summary, from `slo_counts` by class ("all" among them)."""
    out: dict[str, Any] = {}
    for name, of in counts.items():
        keys = [key[1:] for key in of if key.startswith("+")]
        out[name] = {
            "limits": _limits(limits, classes, name),
            "judged": of["judged"],
            "met": of["met"],
            "missed": of["judged"] - of["met"],
            "missed_fraction": (of["judged"] - of["met"]) / of["judged"] if of["judged"] else math.nan,
            "attainment": of["met"] / of["judged"] if of["judged"] else math.nan,
            "attainment_by_limit": {key: of[f"={key}"] / of[f"+{key}"] for key in keys if of[f"+{key}"]},
            "goodput_per_s": of["met"] / window.length_s if window.length_s > 0 else math.nan,
        }
    return out


def _limits(limits: Mapping[str, Mapping[str, float]], classes: tuple[str, ...], name: str) -> dict[str, float | None] | None:
    """The limits of a class; of all requests together only when every class has the same."""
    if name != ALL_CLASSES:
        return dict(limits_of_class(limits, name))
    of_class = [dict(limits_of_class(limits, each)) for each in classes]
    return of_class[0] if all(each == of_class[0] for each in of_class) else None


def common_limits(m: Measurement) -> dict[str, float]:
    """The limits that hold for every request of the run; empty when its classes have different ones."""
    shared = _limits(m.limits, m.records.table.slo_class.names, ALL_CLASSES) or {}
    return {key: value for key, value in shared.items() if value is not None}


def utilisation(m: Measurement) -> dict[str, Any]:
    """Use of compute and memory; `instances` has one entry each, the rest are means over instances (the maximum for kv_used_max)."""
    return mean_use(m.records, instance_use(m.records, m.window))


def mean_use(records: RunRecords, instances: list[dict[str, Any]]) -> dict[str, Any]:
    """The `utilisation` part of a summary, from that of each instance."""
    known = [row for row in instances if not math.isnan(row["busy_fraction"])]

    def mean(key: str) -> float:
        values = [row[key] for row in known if key in row and not math.isnan(row[key])]
        return sum(values) / len(values) if values else math.nan

    return {
        "compute_utilisation": compute_utilisation(records),
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
