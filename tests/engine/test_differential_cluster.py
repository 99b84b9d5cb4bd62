"""Clusters in the engine against the naive cluster: prefix caching, routing, KV transfer, failures; all records of requests and steps."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, reject, settings

from simserve.engine.records import RunRecords, Status
from tests.engine.cluster_cases import ClusterCase, clusters
from tests.engine.strategies import Case, Row
from tests.engine.unrolled import steps, token_times
from tests.reference.naive_cluster import NaiveCluster
from tests.reference.toy_cost import JaggedCost, RoundCost

EXAMPLES = int(os.environ.get("SIMSERVE_DIFFERENTIAL_EXAMPLES", "200"))
"""Cases per kind of cluster; more for a thorough hunt."""

Times = Callable[[Any, Any], bool]


def equal(a: Any, b: Any) -> bool:
    """Bit for bit."""
    return bool(a == b) or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def close(a: Any, b: Any) -> bool:
    """Fractions of a link are summed differently on the two sides: times agree to rounding, whatever is counted agrees exactly."""
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return equal(a, b) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)
    return bool(a == b)


def assert_agree(records: RunRecords, naive: NaiveCluster, same: Times, spanned: bool = True) -> None:
    r = records.requests
    times = token_times(records)
    for q in naive.reqs:
        i = q.row
        ours = {
            "end": (Status(r.status[i]).name, r.reasons[r.reason[i]]),
            "released_s": float(r.released_s[i]),
            "scheduled_s": float(r.scheduled_s[i]),
            "finish_s": float(r.finish_s[i]),
            "token times": times[i],
            "first_token_s": float(r.first_token_s[i]),
            "counts": (int(r.generated_tokens[i]), int(r.preemptions[i]), int(r.recomputed_tokens[i])),
            "found in the cache": (int(r.cached_tokens[i]), int(r.reread_tokens[i])),
            "instance": int(r.instance[i]),
        }
        first_token_s = q.token_s[0] if q.token_s else math.nan
        counts, found = (q.generated, q.preemptions, q.recomputed), (q.cached, q.reread)
        served_by = q.served_by if q.status in ("COMPLETED", "CANCELLED") else -1
        theirs = (q.status, q.reason), q.released_s, q.scheduled_s, q.finish_s, q.token_s, first_token_s, counts, found, served_by
        for (name, a), b in zip(ours.items(), theirs, strict=True):
            assert same(a, b), f"request {i}: {name} is {a!r}, the naive cluster says {b!r}"
    assert len(records.lanes) == len(naive.instances)
    for lane, one in zip(records.lanes, naive.instances, strict=True):
        found = [tuple(row) for row in steps(lane)]
        expected = [
            (s.start_s, s.end_s, s.decodes, s.context_tokens, s.prefills, s.prefill_tokens, s.prefill_pairs, s.layers, s.verified)
            for s in one.steps
        ]
        assert same(found, expected), f"steps of instance {lane.instance}"
        first = lane.span_first_step.tolist()
        last = (lane.span_first_step + lane.span_steps - 1).tolist()
        assert lane.span_waiting.tolist() == [one.steps[i].waiting for i in first], "requests waiting"
        # A span that a death cuts notes the blocks of that moment, after its last whole step.
        spans = zip(last, lane.span_kv_blocks.tolist(), strict=True)
        blocks = [(i, used) for i, used in spans if not spanned or i not in one.cut_after]
        assert blocks == [(i, one.steps[i].kv_blocks) for i, _ in blocks], "KV blocks in use"


def check(case: ClusterCase, same: Times = equal) -> NaiveCluster:
    naive = case.naive()
    if same is close and isinstance(case.base.cost, RoundCost) and any(link is not None and link.rounded for link in naive.links):
        reject()  # thirds of round numbers: whether two things coincide is a question of rounding
    for fast_forward in (True, False):
        assert_agree(case.engine(fast_forward=fast_forward), naive, same, fast_forward)
    return naive


def notice(seen: Counter[str], case: ClusterCase, naive: NaiveCluster) -> None:
    """Counts what the case is worth."""
    ends = [s.end_s for one in naive.instances for s in one.steps]
    seen.update(
        cases=1,
        preempted=any(r.preemptions for r in naive.reqs),
        cached=any(r.cached for r in naive.reqs),
        reread=any(r.reread for r in naive.reqs),
        found_with_outputs=case.outputs and any(r.cached for r in naive.reqs),
        reread_with_outputs=case.outputs and any(r.reread for r in naive.reqs),
        shared_with_owners=any(case.adapters) and any(r.cached for r in naive.reqs),
        shared_out=len({r.served_by for r in naive.reqs if r.served_by >= 0}) > 1,
        tied_ends=len(set(ends)) < len(ends),
        followed=case.base.concurrency is not None or any(row.after >= 0 for row in case.base.rows),
        sent_ahead=naive.sent_ahead > 0,
        withdrawn=naive.withdrawn > 0,
        waited_for_room=naive.waited_for_room > 0,
        died=naive.deaths > 0,
        lost_tokens=case.rule != "fail" and naive.deaths > 0 and any(r.recomputed and not r.preemptions for r in naive.reqs),
        **{f"gave_up_{where}": where in naive.gave_up for where in ("waiting", "running", "swapped", "landed", "aside", "held")},
        failed=any(r.reason == "its instance died" for r in naive.reqs),
        accepted=any(s.verified[1] for one in naive.instances for s in one.steps),
        rejected=any(s.verified[0] > s.verified[1] for one in naive.instances for s in one.steps),
    )


PUSHES = ("push", "push-layerwise")

KINDS: dict[str, tuple[dict[str, Any], Times, dict[str, int]]] = {
    "prefix caching": (
        {"sizes": (1,), "caching": True},
        equal,
        {"preempted": 30, "cached": 50, "reread": 20, "found_with_outputs": 20, "reread_with_outputs": 10, "shared_with_owners": 2},
    ),
    "several instances": ({"sizes": (2, 3)}, equal, {"preempted": 20, "shared_out": 80, "tied_ends": 40, "followed": 80}),
    "KV transfer": (
        {"sizes": (2, 3, 4), "kv_transfers": True},
        close,
        {"preempted": 30, "shared_out": 40, "tied_ends": 30, "waited_for_room": 20},
    ),
    "deaths": ({"sizes": (1, 2, 3), "deaths": True}, equal, {"died": 80, "lost_tokens": 15, "failed": 15}),
    "clients that give up": (
        {
            "sizes": (2, 3, 4),
            "caching": True,
            "kv_transfers": True,
            "deaths": True,
            "ways": ("pull", "push", "push-layerwise"),
            "impatient": True,
        },
        close,
        {"gave_up_waiting": 15, "gave_up_running": 30, "gave_up_aside": 30, "gave_up_held": 4},
    ),
    "push": (
        {"sizes": (2, 3, 4), "kv_transfers": True, "ways": PUSHES},
        close,
        {"preempted": 30, "shared_out": 40, "waited_for_room": 20, "sent_ahead": 40, "withdrawn": 8},
    ),
    "push and deaths": (
        {"sizes": (2, 3, 4), "caching": True, "kv_transfers": True, "deaths": True, "ways": PUSHES},
        close,
        {"died": 80, "cached": 40, "sent_ahead": 20, "withdrawn": 8},
    ),
    "everything": (
        {"sizes": (2, 3, 4), "caching": True, "kv_transfers": True, "deaths": True},
        close,
        {"died": 80, "cached": 40, "tied_ends": 20, "waited_for_room": 15},
    ),
    "windows and states": ({"sizes": (1, 2), "caching": True, "grouped": True}, equal, {"preempted": 30, "cached": 50, "reread": 20}),
    "windows and states, push and deaths": (
        {"sizes": (2, 3, 4), "kv_transfers": True, "deaths": True, "ways": ("pull", *PUSHES), "grouped": True},
        close,
        {"died": 80, "sent_ahead": 20, "waited_for_room": 15},
    ),
    "speculation and prefix caching": (
        {"sizes": (1, 2), "caching": True, "speculating": True},
        equal,
        {"preempted": 30, "cached": 50, "reread": 20, "accepted": 80, "rejected": 80},
    ),
    "speculation, windows and deaths": (
        {"sizes": (1, 2, 3), "deaths": True, "grouped": True, "speculating": True},
        equal,
        {"died": 80, "lost_tokens": 15, "failed": 15, "accepted": 80, "rejected": 80},
    ),
    "speculation and everything": (
        {
            "sizes": (2, 3, 4),
            "caching": True,
            "kv_transfers": True,
            "deaths": True,
            "ways": ("pull", *PUSHES),
            "impatient": True,
            "speculating": True,
        },
        close,
        {"died": 50, "waited_for_room": 15, "gave_up_running": 20, "gave_up_aside": 20, "accepted": 40, "rejected": 50},
    ),
    "steps that vary, and deaths": ({"sizes": (1, 2, 3), "deaths": True, "varied": True}, equal, {"died": 80, "lost_tokens": 15}),
}
"""What a cluster does -> how to draw one, how times are compared, how many of 200 cases at least show what."""


@pytest.mark.parametrize("kind", KINDS)
def test_engine_equals_naive_cluster(kind: str) -> None:
    how, same, at_least = KINDS[kind]
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(clusters(**how))
    def run(case: ClusterCase) -> None:
        # SGLang that drafts and caches prefixes at once, or whose instances die, is not settled between the two (docs/invariants.md).
        drafts_and_caches = case.base.speculation is not None and how.get("caching")
        assume(case.base.policy != "sglang" or not (drafts_and_caches or case.failures))
        notice(seen, case, check(case, same))

    run()
    for what, times in at_least.items():
        assert seen[what] * 200 >= times * seen["cases"], (what, seen)


FAULTS = {
    "a static batch all of which was on the host never came back": ClusterCase(
        Case(
            (Row(0, 0, 5), Row(0, 0, 5), Row(0, 0, 5)), "static", (), JaggedCost(), 7, 1, 3, preemption="swap", host_kv_blocks=100,
        ),
        roles=("prefill", "decode"), extra_blocks=(0, 0), link=(4096.0, 0.0),
    ),
    "what a rejection in a plan released was routed by a queue that still had the rejected one": ClusterCase(
        Case((Row(0.25, 4, 4), Row(0, 1, 2, after=0)), "vllm-v0", (("max_num_batched_tokens", 2),), RoundCost(), 12, 3, 2),
        roles=("mixed", "mixed"), extra_blocks=(0, 0), router="shortest-queue",
    ),
    "a decode instance whose plan preempted all that ran stood still beside those that waited for the slot": ClusterCase(
        Case(
            (Row(0, 0, 7), Row(0, 0, 2)), "sarathi", (("token_budget", 4),), JaggedCost(), 4, 2, 1, preemption="swap", host_kv_blocks=100,
        ),
        roles=("prefill", "decode"), extra_blocks=(0, 0), link=(4096.0, 0.0),
    ),
}  # fmt: skip
"""What was wrong in the engine -> the case that showed it."""


@pytest.mark.parametrize("fault", FAULTS)
def test_clusters_that_showed_a_fault(fault: str) -> None:
    check(FAULTS[fault], close)
