"""Layered prefill: who is in a wave, how it passes through the layers, and that nothing of it is counted twice."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from simserve.engine import InstanceSpec, simulate
from simserve.errors import PolicyError
from simserve.policies.registry import scheduler_class
from simserve.policies.scheduling.layered_prefill import LayeredPrefill
from simserve.workload.requests import PrefixBlocks, RequestTable, Workload
from tests.engine.invariants import complaints
from tests.engine.outlaws import Outlaw, serve
from tests.engine.strategies import Case, Row, cases
from tests.engine.unrolled import steps, token_times
from tests.reference.toy_cost import JaggedCost, RoundCost


def layered(rows: tuple[Row, ...], kv_blocks: int = 100, max_seqs: int = 8, **params: Any) -> Any:
    case = Case(rows, "layered", tuple(params.items()), RoundCost(), kv_blocks=kv_blocks, block_tokens=4, max_seqs=max_seqs)
    records = case.engine(check=True)
    assert complaints(records, case.workload()) == []
    return records


def log(records: Any) -> list[tuple[int, int, int, tuple[int, int]]]:
    """(decodes, chunks, prompt tokens, (group, groups)) of each step."""
    return [(s.decodes, s.prefills, s.prefill_tokens, s.layers) for s in steps(records.lanes[0])]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (4, [1, 2, 4, 4, 4]),
        (12, [1, 2, 4, 6, 12]),
        (16, [1, 2, 4, 8, 16]),
        (24, [1, 2, 4, 8, 24]),
    ],
)
def test_the_authors_table_of_groups(most: int, expected: list[int]) -> None:
    policy = LayeredPrefill(LayeredPrefill.Params(group_rule="table", max_groups=most))
    bounds = (512, 1024, 2048, 4096, 8192)
    assert [policy.groups(tokens) for tokens in bounds] == expected
    assert [policy.groups(low + 1) for low in bounds[:-1]] == expected[1:]


def test_the_papers_rule_of_groups() -> None:
    """G = max(1, ceil(L / 512))."""
    policy = LayeredPrefill(LayeredPrefill.Params())
    assert [policy.groups(tokens) for tokens in (1, 512, 513, 3100, 8192)] == [1, 1, 2, 7, 16]


def test_a_wave_by_hand() -> None:
    """Two prompts make a wave of 12 tokens in 3 groups. A third, which arrives meanwhile, waits for its end; then both others decode in
    each of its steps, through all layers."""
    rows = (Row(0, 7, 9), Row(0, 5, 9), Row(0.3, 4, 1))
    records = layered(rows, group_tokens=4, max_num_batched_tokens=16)
    assert log(records)[:5] == [(0, 2, 12, (0, 3)), (0, 2, 12, (1, 3)), (0, 2, 12, (2, 3)), (2, 1, 4, (0, 1)), (2, 0, 0, (0, 1))]
    # A step of 12 tokens takes 0.5 s: the first tokens come after the third.
    assert [t[0] for t in token_times(records)] == [1.5, 1.5, 1.75]


def test_what_a_long_prompt_leaves_over_begins_the_next_wave() -> None:
    """20 tokens with waves of 8: 8, 8, and 4 with the first 4 of the next prompt; its rest comes alone. Each wave has its own groups."""
    records = layered((Row(0, 20, 1), Row(0, 6, 1)), group_tokens=4, max_num_batched_tokens=8)
    assert log(records) == [
        *((0, 1, 8, (g, 2)) for g in (0, 1)),
        *((0, 1, 8, (g, 2)) for g in (0, 1)),
        *((0, 2, 8, (g, 2)) for g in (0, 1)),
        (0, 1, 2, (0, 1)),
    ]


def test_a_chunk_counts_once_however_many_groups_it_passes() -> None:
    one = layered((Row(0, 30, 3),), group_tokens=64)
    many = layered((Row(0, 30, 3),), group_tokens=2)
    assert one.counters["computed_tokens"] == many.counters["computed_tokens"] == 32
    assert one.counters["attended_pairs"] == many.counters["attended_pairs"]
    assert len(many.lanes[0].step_end_s) == 15 + 2
    assert many.requests.scheduled_s[0] == 0
    assert many.requests.first_token_s[0] == many.lanes[0].step_end_s[14]


def test_a_preemption_loses_the_groups_that_were_passed() -> None:
    """6 blocks of 4 tokens. While a prompt of 12 tokens passes through its 6 groups, the sequence that decodes needs a fourth block for its
    13th token: the prompt, 4 groups on its way, gives its blocks up and later starts at the first group. It had computed nothing."""
    rows = (Row(0, 8, 14), Row(0.5, 12, 2))
    records = layered(rows, kv_blocks=6, group_tokens=2)
    seen = [s.layers for s in steps(records.lanes[0]) if s.prefill_tokens == 12]
    assert seen == [(g, 6) for g in (0, 1, 2, 3, 0, 1, 2, 3, 4, 5)]
    assert records.requests.preemptions.tolist() == [0, 1]
    assert records.requests.recomputed_tokens.tolist() == [0, 0]


def test_the_random_cases_preempt_inside_waves() -> None:
    """What the differential and invariant tests of this policy are worth: waves are cut by preemptions, shared, and chained."""
    seen: Counter[str] = Counter()

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(cases(policies=("layered",)))
    def look(case: Case) -> None:
        log = [s for s in steps(case.engine().lanes[0]) if s.prefill_tokens]
        cut = any(b.prefills < a.prefills or b.layers[0] == 0 for a, b in pairwise(log) if not a.computes)
        seen.update(
            waves=any(s.layers[1] > 2 for s in log), cut=cut, shared=any(s.prefills > 1 and s.layers[1] > 1 for s in log),
            ridden=any(s.decodes and s.layers[1] > 1 for s in log),
        )  # fmt: skip

    look()
    assert min(seen[what] for what in ("waves", "shared", "ridden")) >= 50, seen
    assert seen["cut"] >= 5, seen


def test_contents_are_offered_when_they_are_computed() -> None:
    """With a prefix cache: a second request with the same prompt, admitted before the first is through all layers, finds nothing; one
    that comes later does."""
    contents = np.array([1, 2] * 3, dtype=np.int64)
    prefix = PrefixBlocks(np.array([0, 2, 4, 6], dtype=np.int64), contents, 32)
    table = RequestTable.build(np.array([0.0, 0.0, 50.0]), np.array([70, 70, 70]), np.array([4, 4, 4]), prefix=prefix)
    policy = scheduler_class("layered")
    spec = InstanceSpec(
        "i", policy(policy.Params(group_tokens=16)), JaggedCost(), kv_blocks=100, block_tokens=8, max_seqs=8, prefix_caching=True
    )
    records = simulate(Workload(table), [spec], check=True)
    assert records.requests.cached_tokens.tolist() == [0, 0, 64]


def first(view: Any, plan: Any) -> Any:
    """The first in the queue, admitted, or who prefills already."""
    for r in view.waiting:
        plan.admit(r)
        return r
    return view.prefilling[0]


def not_the_first_group(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    plan.prefill(first(view, plan), 7, layers=(1, 3))
    return plan


def the_same_group_again(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    plan.prefill(memory.setdefault("r", first(view, plan) if "r" not in memory else None), 7, layers=(0, 3))
    return plan


def other_tokens(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    step = memory["step"] = memory.get("step", -1) + 1
    r = memory.setdefault("r", first(view, plan) if step == 0 else None)
    plan.prefill(r, 7 - step, layers=(step, 3))
    return plan


def other_groups(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    step = memory["step"] = memory.get("step", -1) + 1
    r = memory.setdefault("r", first(view, plan) if step == 0 else None)
    plan.prefill(r, 7, layers=(step, 3 + step))
    return plan


def all_layers_half_way(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    step = memory["step"] = memory.get("step", -1) + 1
    r = memory.setdefault("r", first(view, plan) if step == 0 else None)
    plan.prefill(r, 7, layers=None if step else (0, 3))
    return plan


def two_groups_in_a_step(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    for r, layers in zip(list(view.waiting), ((0, 3), (0, 2)), strict=False):
        plan.admit(r)
        plan.prefill(r, r.prefill_left, layers=layers)
    return plan


def part_and_all_in_a_step(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    for r, layers in zip(list(view.waiting), ((0, 3), None), strict=False):
        plan.admit(r)
        plan.prefill(r, r.prefill_left, layers=layers)
    return plan


def no_such_group(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
    plan.prefill(first(view, plan), 7, layers=(3, 3))
    return plan


ROWS = (Row(0.0, 7, 5), Row(0.0, 3, 6))
CASE = Case(ROWS, "orca", (), JaggedCost(), kv_blocks=16, block_tokens=4, max_seqs=3)


@pytest.mark.parametrize(
    ("crime", "words"),
    [
        (not_the_first_group, "layer group 1 of 3 where 7 tokens in layer group 0 of 3 come next"),
        (the_same_group_again, "layer group 0 of 3 where 7 tokens in layer group 1 of 3 come next"),
        (other_tokens, "prefills 6 tokens"),
        (other_groups, "layer group 1 of 4 where 7 tokens in layer group 1 of 3 come next"),
        (all_layers_half_way, "all layers where 7 tokens in layer group 1 of 3 come next"),
        (two_groups_in_a_step, "layer group 0 of 2 and others of the step in layer group 0 of 3"),
        (part_and_all_in_a_step, "all layers and others of the step in layer group 0 of 3"),
        (no_such_group, "layer group 3 of 3"),
    ],
)
def test_layers_out_of_order_are_an_error(crime: Any, words: str) -> None:
    """I10."""
    with pytest.raises(PolicyError, match="invariant I10") as caught:
        CASE.engine(Outlaw(crime))
    assert words in str(caught.value)


def test_one_group_of_all_layers_is_an_ordinary_slice() -> None:
    def plan(view: Any, plan: Any, memory: dict[str, Any]) -> Any:
        plan.decode(view.decoding)
        for number, r in enumerate(list(view.waiting)):
            plan.admit(r)
            plan.prefill(r, r.prefill_left, layers=(0, 1) if number else None)
        return plan

    records, plain = CASE.engine(Outlaw(plan)), CASE.engine(Outlaw(lambda view, plan, memory: serve(view, plan)))
    assert len(records.lanes[0].layered) == 0
    assert np.array_equal(records.lanes[0].step_end_s, plain.lanes[0].step_end_s)


def test_pipeline_stages_are_refused() -> None:
    class Staged(JaggedCost):
        stages = 2

    spec = InstanceSpec("i", LayeredPrefill(LayeredPrefill.Params()), Staged(), kv_blocks=64, block_tokens=4, max_seqs=4, policy="layered")
    with pytest.raises(PolicyError, match="policy 'layered' prefills by layer groups on an instance of 2 pipeline stages"):
        simulate(CASE.workload(), [spec])
