"""What the instances of a cluster did together: migrations, hand-overs, failures, how many of them served."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from simserve.engine.records import Moves, RunRecords

SERVES = ("up", "draining")
COSTS = ("up", "draining", "booting")


def cluster_summary(records: RunRecords) -> dict[str, Any] | None:
    """The `cluster` part of summary.json; None for one instance that neither dies nor moves anything.

    instance_s     seconds that instances were paid for: booting, serving or draining, over the run (I = sum over instances)
    availability   share of the seconds between an instance's first start and the end of the run in which it served
    """
    if len(records.instances) < 2 and not records.lives:
        return None
    paid_s, served_s = _seconds(records, COSTS), _seconds(records, SERVES)
    counters = records.counters
    return {
        "instances": len(records.instances),
        "instance_s": paid_s,
        "instances_mean": paid_s / records.end_s if records.end_s else None,
        "served_s": served_s,
        "availability": served_s / paid_s if paid_s and counters.get("instance_failures") else None,
        "failures": int(counters.get("instance_failures", 0)),
        "handed_over_tokens": int(counters.get("handed_over_tokens", 0)),
        "migration": None if records.moves is None else _migrations(records.moves, counters),
    }


def _migrations(moves: Moves, counters: dict[str, float]) -> dict[str, Any]:
    done = moves.outcome == 0
    pause_s = (moves.landed_s - moves.stop_s)[done]
    given_up = Counter(moves.outcomes[code] for code in moves.outcome[~done].tolist())
    stats = {
        name: float(np.quantile(pause_s, q, method="inverted_cdf"))
        for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
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


def _seconds(records: RunRecords, states: tuple[str, ...]) -> float:
    """Instance-seconds in one of the states, from time 0 to the end of the run."""
    end_s = records.end_s
    since = dict.fromkeys(range(len(records.instances)), (0.0, "up"))
    total = 0.0
    for at_s, number, state in records.lives:
        start_s, before = since[number]
        if before in states:
            total += min(at_s, end_s) - min(start_s, end_s)
        since[number] = (at_s, state)
    return total + sum(end_s - min(start_s, end_s) for start_s, state in since.values() if state in states)
