"""Live migration in the naive cluster against schedules worked out by hand, and the engine against the same."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.engine.migration_cases import MigrationCase
from tests.engine.speculation.toys import Drafting
from tests.engine.strategies import Case, Row
from tests.engine.test_differential_migration import check
from tests.reference.toy_cost import RoundCost

# Steps take 1/4 s plus 1/4 s for every 8 tokens. A token's KV is 16 bytes, a link carries 128 bytes a second, blocks have 4 tokens.
BASE = Case((Row(0, 8, 12),), "vllm-v1", (), RoundCost(), kv_blocks=20, block_tokens=4, max_seqs=4)
MOVE = MigrationCase(BASE, roles=("mixed", "mixed"), extra_blocks=(0, 0), link=(128.0, 0.0), orders=((3, 0, 1),))


def test_three_copies_and_a_pause_by_hand() -> None:
    """Eight tokens are computed by 0.5 s, then one every 1/4 s. Decided at 0.75 s, before the token of that time: 8 tokens are copied for
    1 s; 12 are there at 1.75 s, and 4 more are copied for 0.5 s; 14 are there at 2.25 s, the last block has the rest. The step that ends
    then is the last; 3 tokens take 0.375 s, and the next token comes a step later."""
    naive = check(MOVE)
    assert naive.migrations.log == [(0, 0, 1, 0.75, 2.25, 2.625, 3, "")]
    assert naive.reqs[0].token_s == [0.5 + 0.25 * k for k in range(8)] + [2.875 + 0.25 * k for k in range(4)]
    assert naive.migrations.moved_tokens == 15
    assert [(s.start_s, s.kv_blocks) for s in naive.instances[1].steps] == [(2.625, 4), (2.875, 5), (3.125, 5), (3.375, 5)]


@pytest.mark.parametrize(
    ("case", "ends"),
    [
        (replace(MOVE, max_stages=1), (math.nan, 1, "the copy did not catch up")),
        (replace(MOVE, base=replace(BASE, rows=(Row(0, 8, 12), Row(0, 72, 3)))), (math.nan, 0, "the destination is full")),
        (replace(MOVE, base=replace(BASE, rows=(Row(0, 8, 5),))), (math.nan, 1, "the request ended")),
        (replace(MOVE, failures=((1.0, 1),)), (math.nan, 1, "an instance died")),
        (replace(MOVE, failures=((2.5, 1),)), (2.25, 3, "an instance died")),
        (replace(MOVE, failures=((2.5, 0),)), (2.25, 3, "an instance died")),
        (replace(MOVE, patience_s=(2.5,)), (2.25, 3, "the request ended")),
    ],
)
def test_ways_out_by_hand(case: MigrationCase, ends: tuple[float, int, str]) -> None:
    ((*_, stop_s, _, stages, reason),) = check(case).migrations.log
    assert (stages, reason) == ends[1:] and (stop_s == ends[0] or math.isnan(stop_s + ends[0]))


def test_a_request_whose_destination_dies_in_the_pause_goes_on_where_it_was() -> None:
    """It stops at 2.25 s; its destination dies at 2.5 s; the next token comes a step later."""
    (r,) = check(replace(MOVE, failures=((2.5, 1),))).reqs
    assert r.token_s == [0.5 + 0.25 * k for k in range(8)] + [2.75 + 0.25 * k for k in range(4)]
    assert (r.recomputed, r.served_by) == (0, 0)


@pytest.mark.parametrize(("other", "outcome"), [(56, ""), (60, "the destination is full")])
def test_memory_for_every_token_of_the_last_step_by_hand(other: int, outcome: str) -> None:
    """Four tokens are drafted and all are right: a step takes 9/16 s and gives five. The destination is in a prefill until 2 s; by then 18
    tokens are cached, and the step in progress makes them 23: with the next one 6 blocks of the 20, of which the prefill has 14 or 15."""
    base = replace(BASE, rows=(Row(0, 8, 30), Row(0, other, 3)), speculation=Drafting(4, right=4))
    naive = check(replace(MOVE, base=base, last_stage_blocks=16))
    ((*_, stop_s, _, stages, reason),) = naive.migrations.log
    assert reason == outcome and stages == (not outcome)
    assert outcome or stop_s == 0.5 + 3 * 9 / 16
