"""No bundled policy lets a later request overtake one for which there is no room: the first that does not fit ends the search."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.policies.registry import scheduler_names
from tests.engine.strategies import Case, Row
from tests.reference.toy_cost import RoundCost

LATER = 0.25
"""Seconds: while the first request decodes."""


def started(policy: str, rows: tuple[Row, ...], kv_blocks: int, max_seqs: int = 8, **params: Any) -> list[float]:
    """When each request had its first step, on blocks of 4 tokens."""
    case = Case(rows, policy, tuple(params.items()), RoundCost(), kv_blocks=kv_blocks, block_tokens=4, max_seqs=max_seqs)
    times: list[float] = case.engine(check=True).requests.scheduled_s.tolist()
    return times


@pytest.mark.parametrize("policy", sorted({*scheduler_names()} - {"fastgen"}))
def test_what_does_not_fit_in_memory_holds_up_all_behind_it(policy: str) -> None:
    """Of 10 blocks the first has 6; the second needs 8; the third would fit at once. FastGen cuts prompts to the memory that is left."""
    rows = (Row(0, 16, 8, 8), Row(LATER, 28, 2, 2), Row(LATER, 3, 1, 1))
    first, second, third = started(policy, rows, kv_blocks=10)
    assert first == 0 and second > LATER + 4 * 0.25, "it waited for memory"
    assert third >= second


@pytest.mark.parametrize("policy", ["orca", "static"])
def test_what_does_not_fit_beside_others_of_one_batch_holds_up_all_behind_it(policy: str) -> None:
    """Of 10 blocks the first reserves 6, the second would need 8, the third 1: it runs with neither before the second does."""
    rows = (Row(0, 16, 8, 8), Row(0, 28, 2, 2), Row(0, 3, 1, 1))
    first, second, third = started(policy, rows, kv_blocks=10)
    assert first == 0 < second <= third


@pytest.mark.parametrize("policy", sorted(scheduler_names()))
def test_without_a_sequence_slot_all_wait(policy: str) -> None:
    """Two slots: the third request starts when one of two ends, the fourth not before it."""
    rows = (Row(0, 4, 6, 6), Row(0, 4, 6, 6), Row(LATER, 4, 6, 6), Row(LATER, 4, 1, 1))
    first, second, third, fourth = started(policy, rows, kv_blocks=100, max_seqs=2)
    assert first == second == 0 and LATER < third <= fourth
