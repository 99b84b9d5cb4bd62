"""No bundled policy lets a later request overtake one for which there is no room: the first that does not fit ends the search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.engine import InstanceSpec, simulate
from simserve.policies.registry import scheduler_class, scheduler_names
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload
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


@pytest.mark.parametrize(("budget", "together"), [(22, True), (20, False)])
def test_sglang_counts_what_its_cache_lacks(budget: int, together: bool) -> None:
    """After a prompt of 12 tokens, one of 9 and one of 20 of which 8 are known: 9 and 12 tokens are fewer than 22, and not than 20."""
    first = list(range(12))
    ids = np.concatenate([first, np.arange(100, 109), first[:8], np.arange(200, 212)])
    prefix = PrefixBlocks(np.array([0, 12, 21, 41]), ids, 1)
    table = RequestTable.build(np.array([0.0, 100.0, 100.0]), np.array([12, 9, 20]), np.array([1, 1, 1]), prefix=prefix)
    cls = scheduler_class("sglang")
    policy = cls(cls.Params(max_prefill_tokens=budget, chunked_prefill_size=-1))
    spec = InstanceSpec("i", policy, RoundCost(), 100, block_tokens=4, max_seqs=8, prefix_caching=True, prefix_match="token")
    times = simulate(Workload(table), [spec], check=True).requests.scheduled_s
    assert times[1] == 100.0 and (times[2] == times[1]) == together
