"""The content of summary.json: one nested mapping of JSON types. Quantities that are not defined are null, never 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from simserve.engine.records import I64, RunRecords
from simserve.report.cluster import cluster_summary
from simserve.report.drafts import speculation_summary
from simserve.report.metrics import Measurement, preemption, queues, request_counts, slo_summary, throughput, utilisation
from simserve.report.prefix_hits import prefix_hits
from simserve.report.provenance import compared, efficiencies, from_python, instance_notes, models_taken, simulated, unvalidated
from simserve.report.quantiles import Stats
from simserve.report.saturation import Saturation
from simserve.report.scaling.paid import paid_summary
from simserve.report.scaling.starts import scaling_summary
from simserve.report.scaling.words import with_changes
from simserve.report.window import Window
from simserve.report.workload_notes import workload_notes
from simserve.version import __version__

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Said:
    """The figures of a run that do not come from its records as a whole: measured of all its requests, or added up from pieces of it.

    latency  SLO class (or "all") -> metric -> Stats
    limits   the SLO, as in Measurement
    busy_s   seconds in which each instance ran a step, where the records do not have the steps
    released_in_window  whether some request was released in the window
    served   by instance, where the records do not have the requests (`cluster.served_by`)
    """

    window: Window
    requests: dict[str, Any]
    latency: Mapping[str, Mapping[str, Stats]]
    throughput: dict[str, float]
    slo: dict[str, Any] | None
    utilisation: dict[str, Any]
    queue: dict[str, float]
    preemption: dict[str, int]
    prefix_cache: dict[str, Any] | None
    speculation: dict[str, Any] | None
    saturation: Saturation
    limits: Mapping[str, Mapping[str, float]]
    released_in_window: bool
    busy_s: Sequence[float] | None = None
    served: Mapping[str, I64] | None = None


def said_of(m: Measurement) -> Said:
    """Of a run that was recorded whole."""
    return Said(
        window=m.window,
        requests=request_counts(m),
        latency=m.latency,
        throughput=throughput(m),
        slo=slo_summary(m),
        utilisation=utilisation(m),
        queue=queues(m),
        preemption=preemption(m),
        prefix_cache=prefix_hits(m),
        speculation=speculation_summary(m.records, m.window),
        saturation=m.saturation,
        limits=m.limits,
        released_in_window=bool(m.in_window.any()),
    )


@dataclass(frozen=True, slots=True)
class Beside:
    """What a summary says beside the figures of its records; None where a run has none of it.

    intervals  bands on headlines, from repeated draws
    energy, experts, money  of `report.energy` and `report.money`
    notes      sentences for the warnings
    """

    intervals: Mapping[str, Any] | None = None
    energy: Mapping[str, Any] | None = None
    experts: Mapping[str, Any] | None = None
    money: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def summarise(
    said: Said, figures: Mapping[str, Any], records: RunRecords, experiment: Mapping[str, Any], name: str, beside: Beside
) -> dict[str, Any]:
    """Everything summary.json holds, with these figures (`figures_of`). Deterministic: no times of day, no host, no machine. Of the
    records, what is known of the run as a whole."""
    given, energy, experts = from_python(experiment), beside.energy, beside.experts
    provenance = records.table.provenance
    content = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "simserve_version": __version__,
        "simulated": simulated(records),
        "unvalidated": _unvalidated(records, energy, experts),
        **({"policies_from_python": given} if given else {}),
        "workload": {"requests": said.requests["total"], "provenance": provenance},
        **figures,
        "counters": dict(records.counters),
        "warnings": [*beside.notes, *_given(given), *warnings_of(said, records, energy, experts), *workload_notes(provenance, experiment)],
        "intervals": beside.intervals,
        "experiment": dict(experiment),
    }
    plain = to_json_types(content)
    assert isinstance(plain, dict)
    return plain


def figures_of(said: Said, records: RunRecords, experiment: Mapping[str, Any], beside: Beside) -> dict[str, Any]:
    """The parts of a summary that hold figures, as they were computed: what a study takes from a run, which has no use for the rest."""
    return {
        "window": {"start_s": said.window.start_s, "end_s": said.window.end_s, "length_s": said.window.length_s, "run_s": records.end_s},
        "requests": said.requests,
        "latency": _latency(said),
        "throughput": said.throughput,
        "slo": said.slo,
        "utilisation": said.utilisation,
        "queue": said.queue,
        "preemption": said.preemption,
        "prefix_cache": said.prefix_cache,
        **({} if said.speculation is None else {"speculation": said.speculation}),
        "cluster": cluster_summary(records, experiment, said.served),
        "energy": beside.energy,
        "experts": beside.experts,
        "money": beside.money,
        "paid": paid_summary(records, said.busy_s),
        "scaling": with_changes(scaling_summary(records, experiment), records, experiment),
        "saturation": {
            "saturated": said.saturation.saturated,
            "waiting_by_quarter": list(said.saturation.quarters),
            "message": said.saturation.message,
        },
    }


def headlines_of(said: Said, records: RunRecords) -> dict[str, Any]:
    """The part of a summary that intervals are of, and what was simulated."""
    return {"simulated": simulated(records), "latency": _latency(said), "throughput": said.throughput}


def _latency(said: Said) -> dict[str, Any]:
    return {name: {metric: asdict(stats) for metric, stats in of_class.items()} for name, of_class in said.latency.items()}


def _given(policies: list[dict[str, Any]]) -> list[str]:
    """What the experiment's YAML does not hold."""
    if not policies:
        return []
    names = ", ".join(dict.fromkeys(f"{one['module']}.{one['class']}" for one in policies))
    return [f"Policy objects were given from Python ({names}): the experiment's YAML alone does not reproduce this run."]


def _unvalidated(records: RunRecords, energy: Mapping[str, Any] | None, experts: Mapping[str, Any] | None) -> list[str]:
    totals = {"energy": energy, "expert reads": experts}
    return unvalidated(records) + [name for name, total in totals.items() if total and not total["validated"]]


class Warned(Protocol):
    """The figures that warnings are about, as in `Said`."""

    @property
    def requests(self) -> dict[str, Any]: ...
    @property
    def saturation(self) -> Saturation: ...
    @property
    def window(self) -> Window: ...
    @property
    def released_in_window(self) -> bool: ...
    @property
    def limits(self) -> Mapping[str, Mapping[str, float]]: ...


def warnings_of(
    said: Warned, records: RunRecords, energy: Mapping[str, Any] | None = None, experts: Mapping[str, Any] | None = None
) -> list[str]:
    """What a reader must know before believing the figures."""
    out = []
    if said.saturation.message:
        out.append(said.saturation.message)
    if said.window.length_s == 0:
        out.append(f"The warm-up and cool-down cuts leave nothing of a run of {records.end_s:.6g} s: there are no latencies and no rates.")
    elif not said.released_in_window:
        out.append("No request was released in the measured window: there are no latencies.")
    counts = said.requests
    for reason, number in counts["reasons"]["rejected"].items():
        out.append(f"{number} of {counts['total']} requests were rejected: {reason}.")
    if counts["rejected"] and counts["completed"]:
        out.append(f"Latencies and rates are of the {counts['completed']} requests that were completed, not of those refused.")
    if counts["cancelled"]:
        out.append(
            f"{counts['cancelled']} of {counts['total']} requests were cancelled, because their clients gave up. End-to-end latencies are "
            f"of the {counts['completed']} that were completed: those that waited longest are not among them."
        )
    out += models_taken(records) + instance_notes(records) + efficiencies(records)
    for name in sorted(set(said.limits) - set(records.table.slo_class.names) - {"default"}):
        out.append(f"The SLO names the class '{name}', which no request of this workload has.")
    out += compared(records)
    missing = _unvalidated(records, energy, experts)
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
