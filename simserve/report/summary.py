"""The content of summary.json: one nested mapping of JSON types. Quantities that are not defined are null, never 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from simserve.report.cluster import cluster_summary
from simserve.report.drafts import speculation_summary
from simserve.report.metrics import Measurement, preemption, queues, request_counts, slo_summary, throughput, utilisation
from simserve.report.prefix_hits import prefix_hits
from simserve.report.provenance import compared, efficiencies, from_python, memory_notes, models_taken, simulated, unvalidated
from simserve.report.scaling.paid import paid_summary
from simserve.report.scaling.starts import scaling_summary
from simserve.report.scaling.words import with_changes
from simserve.report.workload_notes import workload_notes
from simserve.version import __version__

SCHEMA_VERSION = 1


def summarise(
    m: Measurement,
    experiment: Mapping[str, Any],
    name: str,
    intervals: Mapping[str, Any] | None = None,
    energy: Mapping[str, Any] | None = None,
    experts: Mapping[str, Any] | None = None,
    notes: tuple[str, ...] = (),
    money: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything summary.json holds. Deterministic: no times of day, no host, no machine."""
    given, figures = from_python(experiment), figures_of(m, experiment, energy, experts, money)
    content = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "simserve_version": __version__,
        "simulated": simulated(m.records),
        "unvalidated": _unvalidated(m, energy, experts),
        **({"policies_from_python": given} if given else {}),
        "workload": {"requests": len(m.records.table), "provenance": m.records.table.provenance},
        **figures,
        "counters": dict(m.records.counters),
        "warnings": [*notes, *_given(given), *warnings(m, energy, experts), *workload_notes(m.records.table.provenance, experiment)],
        "intervals": intervals,
        "experiment": dict(experiment),
    }
    plain = to_json_types(content)
    assert isinstance(plain, dict)
    return plain


def figures_of(
    m: Measurement,
    experiment: Mapping[str, Any],
    energy: Mapping[str, Any] | None = None,
    experts: Mapping[str, Any] | None = None,
    money: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The parts of a summary that hold figures, as they were computed: what a study takes from a run, which has no use for the rest."""
    drafts = speculation_summary(m.records, m.window)
    return {
        "window": {"start_s": m.window.start_s, "end_s": m.window.end_s, "length_s": m.window.length_s, "run_s": m.records.end_s},
        "requests": request_counts(m),
        "latency": _latency(m),
        "throughput": throughput(m),
        "slo": slo_summary(m),
        "utilisation": utilisation(m),
        "queue": queues(m),
        "preemption": preemption(m),
        "prefix_cache": prefix_hits(m),
        **({} if drafts is None else {"speculation": drafts}),
        "cluster": cluster_summary(m.records, experiment),
        "energy": energy,
        "experts": experts,
        "money": money,
        "paid": paid_summary(m.records),
        "scaling": with_changes(scaling_summary(m.records, experiment), m.records, experiment),
        "saturation": {
            "saturated": m.saturation.saturated,
            "waiting_by_quarter": list(m.saturation.quarters),
            "message": m.saturation.message,
        },
    }


def headlines_of(m: Measurement) -> dict[str, Any]:
    """The part of a summary that intervals are of, and what was simulated."""
    return {"simulated": simulated(m.records), "latency": _latency(m), "throughput": throughput(m)}


def _latency(m: Measurement) -> dict[str, Any]:
    return {name: {metric: asdict(stats) for metric, stats in of_class.items()} for name, of_class in m.latency.items()}


def _given(policies: list[dict[str, Any]]) -> list[str]:
    """What the experiment's YAML does not hold."""
    if not policies:
        return []
    names = ", ".join(dict.fromkeys(f"{one['module']}.{one['class']}" for one in policies))
    return [f"Policy objects were given from Python ({names}): the experiment's YAML alone does not reproduce this run."]


def _unvalidated(m: Measurement, energy: Mapping[str, Any] | None, experts: Mapping[str, Any] | None) -> list[str]:
    totals = {"energy": energy, "expert reads": experts}
    return unvalidated(m.records) + [name for name, total in totals.items() if total and not total["validated"]]


def warnings(m: Measurement, energy: Mapping[str, Any] | None = None, experts: Mapping[str, Any] | None = None) -> list[str]:
    """What a reader must know before believing the figures."""
    out = []
    if m.saturation.message:
        out.append(m.saturation.message)
    if m.window.length_s == 0:
        out.append(
            f"The warm-up and cool-down cuts leave nothing of a run of {m.records.end_s:.6g} s: there are no latencies and no rates."
        )
    elif not bool(m.in_window.any()):
        out.append("No request was released in the measured window: there are no latencies.")
    counts = request_counts(m)
    for reason, number in counts["reasons"]["rejected"].items():
        out.append(f"{number} of {counts['total']} requests were rejected: {reason}.")
    if counts["rejected"] and counts["completed"]:
        out.append(f"Latencies and rates are of the {counts['completed']} requests that were completed, not of those refused.")
    if counts["cancelled"]:
        out.append(
            f"{counts['cancelled']} of {counts['total']} requests were cancelled, because their clients gave up. End-to-end latencies are "
            f"of the {counts['completed']} that were completed: those that waited longest are not among them."
        )
    out += models_taken(m.records) + memory_notes(m.records) + efficiencies(m.records)
    for name in sorted(set(m.limits) - set(m.records.table.slo_class.names) - {"default"}):
        out.append(f"The SLO names the class '{name}', which no request of this workload has.")
    out += compared(m.records)
    missing = _unvalidated(m, energy, experts)
    if missing:
        out.append(f"Not validated against measurements: {', '.join(missing)}.")
    return out


def to_json_types(value: Any) -> Any:
    """Plain JSON types: NumPy scalars become numbers, tuples lists, NaN and infinities None, keys strings."""
    if isinstance(value, Mapping):
        return {str(key): to_json_types(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_types(item) for item in value]
    if isinstance(value, np.ndarray):
        return [to_json_types(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        return to_json_types(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
