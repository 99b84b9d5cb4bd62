"""XY-Serve's chunk, by hand: one budget for prompts, decodes and drafted tokens, in which the latter two have their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.engine import InstanceSpec, simulate
from simserve.policies.registry import scheduler_class
from simserve.policies.scheduling.xy_serve import XyServe
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload
from tests.engine.invariants import complaints
from tests.engine.speculation.toys import Drafting, Verifying
from tests.engine.strategies import Case, Row, cases
from tests.engine.unrolled import steps
from tests.reference.toy_cost import RoundCost


def served(rows: tuple[Row, ...], kv_blocks: int = 200, max_seqs: int = 8, **params: Any) -> Any:
    case = Case(rows, "xy-serve", tuple(params.items()), RoundCost(), kv_blocks=kv_blocks, block_tokens=4, max_seqs=max_seqs)
    records = case.engine(check=True)
    assert complaints(records, case.workload()) == []
    return [(s.decodes, s.prefills, s.prefill_tokens) for s in steps(records.lanes[0])]


def test_a_chunk_of_prompts_alone_when_nothing_decodes_and_a_long_prompt_is_split() -> None:
    """20 tokens in chunks of 8, the last one short: nothing else is there."""
    assert served((Row(0, 20, 1),), token_budget=8) == [(0, 1, 8), (0, 1, 8), (0, 1, 4)]


def test_under_low_load_the_chunk_is_short() -> None:
    assert served((Row(0, 3, 3),), token_budget=8) == [(0, 1, 3), (1, 0, 0), (1, 0, 0)]


def test_decodes_have_their_place_and_prompts_fill_the_rest() -> None:
    """Two decode while the third prompt of 20 comes: it gets 6 tokens of each chunk of 8."""
    rows = (Row(0, 4, 9), Row(0, 4, 9), Row(0.25, 20, 1))
    assert served(rows, token_budget=8)[:5] == [(0, 2, 8), (2, 1, 6), (2, 1, 6), (2, 1, 6), (2, 1, 2)]


def test_prompts_leave_reserved_tokens_while_any_request_decodes() -> None:
    """5 of 8 tokens are reserved: beside one decode a prompt gets 3 a chunk, and all 8 where nothing decodes."""
    assert served((Row(0, 16, 1),), token_budget=8, reserved_tokens=5) == [(0, 1, 8), (0, 1, 8)]
    rows = (Row(0, 8, 4), Row(0.25, 8, 1))
    assert served(rows, token_budget=8, reserved_tokens=5) == [(0, 1, 8), (1, 1, 3), (1, 1, 3), (1, 1, 2)]


def test_more_decodes_than_are_reserved_take_what_they_need() -> None:
    """Three decode, one token is reserved: the prompt gets 5 of 8."""
    rows = (Row(0, 2, 9), Row(0, 2, 9), Row(0, 2, 9), Row(0.25, 10, 1))
    assert served(rows, token_budget=8, reserved_tokens=1)[1:3] == [(3, 1, 5), (3, 1, 5)]


def test_only_tokens_that_the_prefix_cache_does_not_hold_are_queued() -> None:
    """A repeated prompt of 30 tokens: one is computed, and the chunk has room for another prompt beside it."""
    ids = np.concatenate([np.arange(30), np.arange(30), np.arange(100, 107)])
    prefix = PrefixBlocks(np.array([0, 30, 60, 67]), ids, 1)
    table = RequestTable.build(np.array([0.0, 1000.0, 1000.0]), np.array([30, 30, 7]), np.array([1, 1, 1]), prefix=prefix)
    policy = XyServe(XyServe.Params(token_budget=8))
    spec = InstanceSpec("i", policy, RoundCost(), 100, block_tokens=4, max_seqs=8, prefix_caching=True, prefix_match="token")
    records = simulate(Workload(table), [spec], check=True)
    assert [s.prefill_tokens for s in steps(records.lanes[0])] == [8, 8, 8, 6, 1 + 7]


def test_reserving_all_of_the_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reserved_tokens 8 leave nothing of token_budget 8 to prompts"):
        XyServe.Params(token_budget=8, reserved_tokens=8)


def test_the_papers_budget_is_the_default_and_bounds_what_activations_take() -> None:
    params = scheduler_class("xy-serve").Params()
    assert params.token_budget == 4096 and params.step_tokens(100_000) == 4096 and params.reserved_tokens == 0


@settings(max_examples=60, deadline=None)
@given(cases(policies=("xy-serve",)))
def test_the_policy_is_its_rule_on_random_cases(case: Case) -> None:
    """The naive simulator's rule (docs/invariants.md) gives the same steps, token by token."""
    ours = case.engine(check=True)
    naive = case.naive()
    found = [(s.start_s, s.end_s, s.decodes, s.prefills, s.prefill_tokens) for s in steps(ours.lanes[0])]
    assert found == [(s.start_s, s.end_s, s.decodes, s.prefills, s.prefill_tokens) for s in naive.steps]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), budget=st.sampled_from([16, 64]), reserved=st.sampled_from([0, 5, 15]))
def test_no_chunk_is_over_budget_and_none_is_of_prompts_alone_beside_decodes(seed: int, budget: int, reserved: int) -> None:
    rng = np.random.default_rng(seed)
    rows = tuple(
        Row(float(a), int(p), int(o))
        for a, p, o in zip(np.sort(rng.uniform(0, 9, 12)), rng.integers(1, 90, 12), rng.integers(1, 20, 12), strict=True)
    )
    decoded = False
    for decodes, _, tokens in served(rows, token_budget=budget, reserved_tokens=reserved):
        assert decodes + tokens <= budget
        assert not decodes or tokens <= budget - max(reserved, decodes)
        decoded |= decodes > 0
    assert decoded or all(row.output == 1 for row in rows)


def test_drafted_tokens_have_their_place_as_decodes_do() -> None:
    """Two requests that draft three tokens each compute eight in a step: of a chunk of 12 a prompt gets the other four."""
    rows = (Row(0, 4, 40), Row(0, 4, 40), Row(0.25, 12, 1))
    table = RequestTable.build(*(np.array([getattr(row, name) for row in rows]) for name in ("arrival_s", "prompt", "output")))
    policy = XyServe(XyServe.Params(token_budget=12))
    spec = InstanceSpec("i", policy, Verifying(RoundCost()), 200, block_tokens=4, max_seqs=8, speculation=Drafting(3, right=1))
    log = simulate(Workload(table), [spec], check=True).lanes[0]
    assert [(s.decodes, s.prefill_tokens) for s in steps(log)][:4] == [(0, 8), (2, 4), (2, 4), (2, 4)]
