"""A run's belief: the label and the interval of each headline, from its facts and what was learned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from simserve.catalogue import METRICS, SHOWN_FIGURES
from simserve.uncertainty import residuals
from simserve.uncertainty.belief import Belief, Interval
from simserve.uncertainty.facts import Facts
from simserve.uncertainty.kinds import NEXT, TAIL, Kind, kind_of
from simserve.uncertainty.label import known_of, label_of, least_sure
from simserve.uncertainty.learning import Z, halves
from simserve.uncertainty.sensitivity import first_token_s

STATS = ("mean", "p50", "p90", "p95", "p99")

NEAR_CAPACITY = 0.8
"""From this load on it is said what it means for waiting: mean waits grow as 1 / (1 - load) (queues with one server), so a per cent of
step time moves them by five and more."""


FAR_BEYOND = 2.0
"""Above this load requests as good as come at once, and wait for one another as steps have it."""


def belief_of(facts: Facts, summary: Mapping[str, Any]) -> Belief:
    """Of a run with these facts, whose instances and figures are in `summary` (as summary.json has them)."""
    known = residuals.load()
    lengths = {"prompt": facts.prompt, "output": facts.output}
    unmeasured = facts.unmeasured
    described = [group["cost"] for group in summary["simulated"]]
    groups = [known_of(cost, unmeasured, facts.beyond, lengths, known.seen) for cost in described]
    label, reasons = least_sure([label_of(group) for group in groups])
    sparse, engine = engine_groups(described[0])
    group = (sparse, label, engine)
    relative: dict[str, Interval] = {}
    intervals: dict[str, Interval] = {}
    kinds: dict[str, tuple[str, float]] = {}
    for name, value in headlines(summary):
        kind = kind_of(name, facts)
        ends = relative_of(kind, group)
        if ends is not None and value and name.startswith("ttft.") and facts.sensitivity.waits:
            ends = first_token_ends(facts, kind, name, value, summary["latency"]["all"]["ttft_s"]["mean"], ends)
        if kind is not None and ends is not None and value is not None and math.isfinite(value) and value > 0:
            relative[name], kinds[name] = ends, (kind.name, kind.reacts)
            intervals[name] = (value * ends[0], value * ends[1])
    step = known.spread((NEXT, *group))
    steps = 0.0 if step is None else (step.low + step.high) / (2.0 * Z)
    words = waiting_words(facts, relative)
    return Belief(label, reasons, intervals, relative, kinds, facts.sensitivity.load, words, steps)


def engine_groups(cost: Mapping[str, Any]) -> tuple[str, str]:
    """Dense or with experts, and the engine: where errors of measured runs are looked up."""
    moe = any(str(entry.get("operator", "")).startswith("moe") for entry in cost.get("operators") or ()) or any(
        str(name).startswith("moe") for name in cost.get("unvalidated") or ()
    )
    profile = cost.get("engine_profile") or {}
    return ("experts" if moe else "dense"), str(profile.get("engine", "")).lower()


def relative_of(kind: Kind | None, group: tuple[str, ...]) -> Interval | None:
    """(low, high) over the predicted value of a figure of this kind; None where nothing was learned of such figures."""
    if kind is None:
        return None
    found = residuals.load().spread((kind.name, *group))
    if found is None:
        return None
    low, high = halves(kind.reacts, kind.steps.log, found)
    return math.exp(-low), math.exp(high)


def first_token_ends(facts: Facts, kind: Kind | None, name: str, value: float, mean: float, ends: Interval) -> Interval:
    """(low, high) of a first token over its value where the load is given: no further than the curve of its waiting goes, which is no
    straight line (a queue of a run that ends cannot grow for ever, and one that is gone cannot shrink)."""
    assert kind is not None
    logs = [math.log(end) / kind.reacts for end in ends]
    low, high = (first_token_s(facts.sensitivity, value, mean, log, kind.name.endswith(TAIL)) / value for log in logs)
    return min(max(ends[0], low), 1.0), max(min(ends[1], high), 1.0)


def headlines(summary: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """The figures that get an interval, over all requests, and their values."""
    latency = summary["latency"]["all"]
    for metric in METRICS:
        if metric.banded and metric.name in latency:
            for stat in STATS:
                yield f"{metric.quantity}.{stat}", latency[metric.name].get(stat)
    for figure in SHOWN_FIGURES:
        if figure.banded and figure.path[:1] == ("throughput",):
            yield figure.quantity, summary["throughput"].get(figure.path[-1])


def waiting_words(facts: Facts, relative: Mapping[str, Interval]) -> str:
    """What the load means for waiting, where it decides; "" elsewhere."""
    load, ends = facts.sensitivity.load, relative.get("ttft.mean")
    if load is None or not NEAR_CAPACITY <= load <= FAR_BEYOND or ends is None:
        return ""
    factor = f"not predictable better than within a factor of {ends[1]:,.1f}"
    if load >= 1.0:
        return f"the load is {100 * (load - 1.0):.0f} % above capacity, first tokens are {factor}"
    return f"the load is within {100 * (1.0 - load):.0f} % of capacity, first tokens are {factor}"
