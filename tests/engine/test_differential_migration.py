"""Live migration in the engine against the naive cluster: all records of requests, steps and moves."""

from __future__ import annotations

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

EXAMPLES = int(os.environ.get("SIMSERVE_DIFFERENTIAL_EXAMPLES", "100"))
"""Cases per kind of cluster; more for a thorough hunt."""


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
        stopped_and_gone=any(stop_s == stop_s and reason for *_, stop_s, _, _, reason in log),
        drafted_at_stop=any(s.verified[0] for one in naive.instances for s in one.steps) and any(not reason for *_, reason in log),
        **{f"given up: {reason}": True for *_, reason in log if reason},
    )


KINDS: dict[str, dict[str, Any]] = {
    "migration": {"sizes": (2, 3)},
    "migration and deaths": {"sizes": (2, 3), "deaths": True, "impatient": True},
    "speculation and migration": {"sizes": (2, 3), "speculating": True},
    "speculation, migration and everything": {
        "sizes": (2, 3, 4), "caching": True, "kv_transfers": True, "deaths": True, "impatient": True, "speculating": True,
        "ways": ("pull", "push", "push-layerwise"),
    },
    "windows, speculation and migration": {"sizes": (2, 3), "deaths": True, "grouped": True, "speculating": True},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_engine_moves_requests_as_the_naive_cluster_does(kind: str) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
    @given(moving(**KINDS[kind]))
    def run(case: MigrationCase) -> None:
        naive = check(case)
        notice(seen, naive)

    run()
    print(kind, seen)
