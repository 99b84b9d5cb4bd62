"""What the instances of a cluster did together: migrations, KV transfers, failures, how many of them served."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from simserve.engine.records import I64, Moves, RunRecords, Status

SERVES = ("up", "draining")
COSTS = ("up", "draining", "booting")


def cluster_summary(records: RunRecords, experiment: Mapping[str, Any], served: Mapping[str, I64] | None = None) -> dict[str, Any] | None:
    """The `cluster` part of summary.json; None for one instance that neither dies nor moves anything. `served`: of a run whose requests
    the records do not have (`served_by`).

    instance_s     seconds that instances were paid for: booting, serving or draining, over the run (I = sum over instances)
    serving        fewest and most instances that served at one time, and at the end
    each           one entry an instance: its role, requests that ended there, seconds in which it served, requests moved in and out
    availability   fraction of the seconds between an instance's first start and the end of the run in which it served
    """
    if len(records.instances) < 2 and not records.instance_states:
        return None
    paid_s, served_s = sum(seconds_in(records, COSTS)), sum(seconds_in(records, SERVES))
    counters = records.counters
    return {
        "instances": len(records.instances),
        "instance_s": paid_s,
        "instances_mean": paid_s / records.end_s if records.end_s else None,
        "serving": _serving(records),
        "served_s": served_s,
        "availability": served_s / paid_s if paid_s and counters.get("instance_failures") else None,
        "failures": int(counters.get("instance_failures", 0)),
        "transferred_tokens": int(counters.get("transferred_tokens", 0)),
        "migration": None if records.moves is None else _migrations(records.moves, counters),
        "each": _each(records, experiment, served_by(records) if served is None else served),
    }


def _migrations(moves: Moves, counters: dict[str, float]) -> dict[str, Any]:
    done = moves.outcome == 0
    pause_s = (moves.landed_s - moves.stop_s)[done]
    given_up = Counter(moves.outcomes[code] for code in moves.outcome[~done].tolist())
    stats = {
        name: float(np.quantile(pause_s, q, method="inverted_cdf"))
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
        if len(pause_s)
    }
    return {
        "begun": len(done),
        "done": int(done.sum()),
        "given_up": dict(sorted(given_up.items())),
        "requests": len(np.unique(moves.request[done])),
        "stages_mean": float(moves.stages[done].mean()) if done.any() else None,
        "pause_s": {"mean": float(pause_s.mean()), **stats} if len(pause_s) else None,
        "moved_tokens": int(counters.get("migrated_tokens", 0)),
    }


def served_by(records: RunRecords) -> dict[str, I64]:
    """By instance: requests that completed there, prefills and output tokens that were computed there."""
    size, of, emitted = len(records.instances), records.requests, records.emissions
    done = of.instance[(of.status == Status.COMPLETED) & (of.instance >= 0)]
    at = np.array([lane.instance for lane in records.lanes], dtype=np.int64)[emitted.lane]
    first = emitted.of_prefill()
    tokens = emitted.at_once() + np.maximum(emitted.last_tick - emitted.first_tick + 1, 0)
    return {
        "requests": np.bincount(done, minlength=size),
        "prefills": np.bincount(at[first], minlength=size),
        "output_tokens": np.bincount(at, tokens, minlength=size).astype(np.int64),
    }


def _each(records: RunRecords, experiment: Mapping[str, Any], served: Mapping[str, I64]) -> list[dict[str, Any]]:
    """One entry an instance. A request is counted where it ended, its prefills and tokens where they were computed."""
    size = len(records.instances)
    columns: dict[str, Any] = {**served, "served_s": seconds_in(records, SERVES)}
    if (moves := records.moves) is not None:
        moved = moves.outcome == 0
        columns["moved_in"] = np.bincount(moves.destination[moved], minlength=size)
        columns["moved_out"] = np.bincount(moves.source[moved], minlength=size)
    roles = instance_roles(experiment, size)
    return [
        {"name": info.name, "role": roles[number], **{key: column[number] for key, column in columns.items()}}
        for number, info in enumerate(records.instances)
    ]


def instance_roles(experiment: Mapping[str, Any], size: int) -> list[str | None]:
    """The role of each instance as the resolved experiment states it; None where the run was not made from one."""
    groups = (experiment.get("cluster") or {}).get("instances") or []
    roles = [group.get("role") for group in groups for _ in range(group.get("max_count", group.get("count", 1)))]
    return roles if len(roles) == size else [None] * size


def _serving(records: RunRecords) -> dict[str, int]:
    """The fewest and the most instances that served at one time, and how many did at the end."""
    state = dict.fromkeys(range(len(records.instances)), "up")
    at_s, counts = 0.0, []
    for next_s, number, becomes in (*records.instance_states, (records.end_s, -1, "")):
        if next_s > at_s:  # what changes at one instant counts as one change
            counts.append(sum(one in SERVES for one in state.values()))
            at_s = next_s
        if number >= 0 and next_s <= records.end_s:
            state[number] = becomes
    counts = counts or [sum(one in SERVES for one in state.values())]
    return {"min": min(counts), "max": max(counts), "end": counts[-1]}


def seconds_in(records: RunRecords, states: tuple[str, ...]) -> list[float]:
    """For each instance its seconds in one of the states, from time 0 to the end of the run."""
    end_s = records.end_s
    since = dict.fromkeys(range(len(records.instances)), (0.0, "up"))
    total = [0.0] * len(records.instances)
    for at_s, number, state in (*records.instance_states, *((end_s, number, "") for number in range(len(total)))):
        start_s, before = since[number]
        if before in states:
            total[number] += min(at_s, end_s) - min(start_s, end_s)
        since[number] = (at_s, state)
    return total
