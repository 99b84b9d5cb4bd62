"""Live migration in the engine against the naive cluster: all records of requests, steps and moves."""

from __future__ import annotations

import math
import os
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, reject, settings

from simserve.engine.records import Moves
from tests.engine.migration_cases import MigrationCase, moving
from tests.engine.test_differential_cluster import assert_agree, close
from tests.reference.naive_cluster import NaiveCluster
from tests.reference.toy_cost import RoundCost

EXAMPLES = int(os.environ.get("SIMSERVE_DIFFERENTIAL_EXAMPLES", "60"))
"""Cases per kind of cluster; more for a thorough hunt."""

TIMES = {"migration and deaths": 2, "speculation, migration and everything": 2}
"""Of these kinds so many times as many: what Hypothesis draws is varied from case to case, and of few cases too many are alike."""

FULL, ENDED, PREEMPTED, DIED = "the destination is full", "the request ended", "the request was preempted", "an instance died"


def entries(moves: Moves | None) -> list[tuple[Any, ...]]:
    """The moves of a run as the naive cluster notes them."""
    assert moves is not None
    numbers = (moves.request, moves.source, moves.destination, moves.start_s, moves.stop_s, moves.landed_s, moves.stages)
    reasons = [moves.outcomes[outcome] for outcome in moves.outcome.tolist()]
    return list(zip(*(column.tolist() for column in numbers), reasons, strict=True))


def check(case: MigrationCase) -> NaiveCluster:
    naive = case.naive()
    if isinstance(case.base.cost, RoundCost) and any(link is not None and link.rounded for link in naive.links):
        reject()  # thirds of round numbers: whether two things coincide is a question of rounding
    for fast_forward in (True, False):
        records = case.engine(fast_forward=fast_forward)
        told = case.movers[-1].answers
        # Before a request has come a controller is not asked.
        unasked = [answers for number, answers in naive.migrations.answers.items() if number not in told]
        assert all(all(answers) for answers in unasked)
        assert told == {number: answers for number, answers in naive.migrations.answers.items() if number in told}
        moves = entries(records.moves)
        assert close(moves, naive.migrations.log), f"moves are\n{moves}\nthe naive cluster says\n{naive.migrations.log}"
        assert_agree(records, naive, close, fast_forward)
        assert records.counters["migrated_tokens"] == naive.migrations.moved_tokens
    return naive


def notice(seen: Counter[str], naive: NaiveCluster) -> None:
    """Counts what the case is worth."""
    log = naive.migrations.log
    seen.update(
        cases=1,
        moved=any(not reason for *_, reason in log),
        in_stages=any(stages > 1 and not reason for *_, stages, reason in log),
        preempted=any(r.preemptions for r in naive.reqs),
        died=naive.deaths > 0,
        moved_with_drafts=any(not reason for *_, reason in log) and any(s.verified[0] for one in naive.instances for s in one.steps),
        gone_after_it_had_stopped=any(not math.isnan(stop_s) and reason for *_, stop_s, _, _, reason in log),
        **{reason: True for *_, reason in log if reason},
    )


KINDS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "migration": (
        {"sizes": (2, 3)},
        {"moved": 40, "in_stages": 20, "preempted": 30, FULL: 20, ENDED: 20, PREEMPTED: 4},
    ),
    "migration and deaths": (
        {"sizes": (2, 3), "caching": True, "deaths": True, "impatient": True},
        {"moved": 30, "died": 100, DIED: 10, "gone_after_it_had_stopped": 6},
    ),
    "speculation and migration": (
        {"sizes": (2, 3), "speculating": True},
        {"moved_with_drafts": 40, "in_stages": 15, "preempted": 30, FULL: 20, PREEMPTED: 4},
    ),
    "speculation, migration and everything": (
        {
            "sizes": (4,),
            "caching": True,
            "kv_transfers": True,
            "deaths": True,
            "impatient": True,
            "speculating": True,
            "ways": ("pull", "push", "push-layerwise"),
        },
        {"moved_with_drafts": 10, "died": 80, DIED: 6},
    ),
    "windows, speculation, migration and deaths": (
        {"sizes": (2, 3), "deaths": True, "grouped": True, "speculating": True},
        {"moved_with_drafts": 20, "died": 100, DIED: 10},
    ),
}
"""What a cluster does -> how to draw one, how many of 200 cases at least show what."""


@pytest.mark.parametrize("kind", KINDS)
def test_engine_moves_requests_as_the_naive_cluster_does(kind: str) -> None:
    how, at_least = KINDS[kind]
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES * TIMES.get(kind, 1), deadline=None, derandomize=True, database=None)
    @given(moving(**how))
    def run(case: MigrationCase) -> None:
        notice(seen, check(case))

    run()
    for what, times in at_least.items():
        assert seen[what] * 200 >= times * seen["cases"], (what, seen)
