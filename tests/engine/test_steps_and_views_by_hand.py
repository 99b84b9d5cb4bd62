"""A step as a value, and what a policy sees of an instance, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from simserve.contracts import PREFILL, VERIFY, CostModel, DecodeSteps, InstanceView, Slice, Step, StepPlan
from simserve.engine import InstanceSpec, simulate
from simserve.engine.pipeline import Pipeline
from simserve.engine.speculating_group import _first
from simserve.policies.scheduling.orca import Orca
from simserve.policies.scheduling.static import Static
from simserve.workload.requests import RequestTable, Workload
from tests.engine.clients.test_uneven_emission import Every, Speculating, Verifying
from tests.reference.toy_cost import RoundCost

# ---- steps ----


def test_where_only_total_and_longest_are_known_the_others_are_as_equal_as_can_be() -> None:
    assert Step(4, 60, 30).contexts() == (30, 10, 10, 10) and Step(4, 62, 30).contexts() == (30, 11, 11, 10)
    assert Step(1, 7, 7).contexts() == (7,) and Step(0).contexts() == ()
    assert Step.of([3, 9, 4]).contexts() == (3, 9, 4)
    assert (Step.of([3, 9, 4]).decodes, Step.of([3, 9, 4]).context_tokens, Step.of([3, 9, 4]).longest_tokens) == (3, 16, 9)
    assert Step.of([]).longest_tokens == 0 and Step.of([], [Slice(5, 0)]).slices == [Slice(5, 0)]


def test_a_step_later_every_context_is_a_token_longer() -> None:
    later = Step.of([3, 9, 4]).after(5)
    assert (later.decodes, later.context_tokens, later.longest_tokens, tuple(later.contexts())) == (3, 31, 14, (8, 14, 9))
    assert later.after(1).contexts() == (9, 15, 10) and Step(4, 60, 30).after(2).contexts() == (32, 12, 12, 12)


def test_tokens_that_sequences_compute() -> None:
    """One each, and the drafted ones as equal as whole numbers can be."""
    assert Step(3, 30, 10).widths() == (1, 1, 1) and Step(3, 30, 10).decode_tokens == 3
    drafting = Step(3, 30, 10, (), 7, 2)
    assert drafting.widths() == (4, 3, 3) and drafting.decode_tokens == 10 == sum(drafting.widths())
    assert Step(0).widths() == () and Step(0).decode_tokens == 0


def test_a_step_shows_what_it_is() -> None:
    assert repr(Step(2, 30, 20, [Slice(5, 0)])) == f"Step(2, 30, 20, [{Slice(5, 0)!r}])"
    assert repr(Step(2, 30, 20, (), 4, 2)) == "Step(2, 30, 20, [], 4, 2)"
    assert repr(Step(2, 30, 20, (), 0, 2)) == "Step(2, 30, 20, [], 0, 2)"


def test_one_of_many_steps() -> None:
    def columns(*values: int) -> Any:
        return np.array(values)

    steps = DecodeSteps(2, columns(3, 4), columns(1, 2), columns(30, 35), columns(20, 22))
    second = steps.step(1)
    assert (second.decodes, second.drafted_tokens, second.draft_passes, second.context_tokens, second.longest_tokens) == (2, 4, 2, 35, 22)
    assert tuple(second.contexts()) == (22, 13) and second.widths() == (3, 3)
    known = steps._replace(each=lambda number: ([20 + number, 14], [1, 5])).step(1)
    assert (known.contexts(), known.widths()) == ((21, 14), (1, 5))


def test_what_a_model_need_not_write() -> None:
    """A model of one stage that says what a step takes answers for runs of steps by its single steps."""

    class Bare(CostModel):
        def stage_times(self, step: Step) -> tuple[float, ...]:
            return (1.0 + step.context_tokens + 100 * step.drafted_tokens, 5.0)

    bare: Any = Bare()
    assert bare.stages == 1 and bare.slice_kinds == {PREFILL} and bare.step_time(Step(1, 7, 7)) == 8.0
    assert list(bare.decode_times(Step.of([3, 4]), 3)) == [8.0, 10.0, 12.0]
    many = DecodeSteps(2, np.array([0, 1]), np.array([0, 0]), np.array([3, 5]), np.array([2, 3]))
    assert list(bare.verify_times(many)) == [4.0, 106.0]


# ---- views ----


class Counting(Speculating):
    """Notes at each step what the view counts, and how many there are."""

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self.seen: list[tuple[int, int, int]] = []

    def plan(self, view: InstanceView) -> StepPlan:
        there = [view.prefilling, view.decoding, view.verifying]
        self.seen.append((view.running, view.free_slots, sum(len(each) for each in there)))
        if view.verifying:
            self.apart = True
        return super().plan(view)


def test_slots_are_held_by_those_that_prefill_decode_or_verify() -> None:
    """Four requests; some verify drafted tokens while others still decode with the group."""
    policy = Counting(Counting.Params(k=3, pause=3, max_seqs=8))
    table = RequestTable.build(0.25 * np.arange(4.0), np.full(4, 8), np.array([30, 30, 30, 3]))
    spec = InstanceSpec("i", policy, Verifying(RoundCost()), kv_blocks=1000, block_tokens=4, acceptance=Every(1), max_seqs=8)
    records = simulate(Workload(table), [spec])
    assert VERIFY in Verifying(RoundCost()).slice_kinds and policy.apart and len(records.lanes[0].verified)
    assert max(running for running, _, _ in policy.seen) >= 3
    for running, free, there in policy.seen:
        assert running == there and free == 8 - there


@pytest.mark.parametrize(("policy", "spans"), [(Static, 2), (Orca, 3)])
def test_a_static_batch_is_not_looked_at_when_others_arrive(policy: Any, spans: int) -> None:
    """Two requests decode for 12 tokens while a third, for which the batch has no slot, arrives: a prompt step and one span; Orca looks."""
    table = RequestTable.build(np.array([0.0, 0.0, 2.1]), np.full(3, 4), np.array([12, 12, 1]), max_output_tokens=np.full(3, 40))
    spec = InstanceSpec("i", policy(policy.Params(max_seqs=2)), RoundCost(), kv_blocks=100, block_tokens=4, max_seqs=2)
    lane = simulate(Workload(table), [spec]).lanes[0]
    before_third = lane.span_prefill_tokens.tolist()[1:].index(4) + 1
    assert before_third == spans and lane.span_steps[:before_third].sum() == 12


@pytest.mark.parametrize(
    ("over", "steps", "first"),
    [([], 5, 5), ([False, False], 5, 5), ([True], 5, 0), ([False, True, True], 5, 1), ([False] * 7 + [True], 5, 5)],
)
def test_the_first_place_at_which_something_holds(over: list[bool], steps: int, first: int) -> None:
    assert _first(np.array(over, dtype=bool), steps) == first


def test_a_slice_unless_stated_is_a_chunk_of_a_prompt_through_all_layers_of_no_named_request() -> None:
    assert Slice(5, 7) == Slice(new_tokens=5, context_tokens=7, layers=None, kind=PREFILL, row=-1)


# ---- memory that a request claims on a pipeline ----


def a_lane(index: int, decoding: dict[int, Any] | None = None, prefilling: Any = ()) -> Any:
    return SimpleNamespace(index=index, group=SimpleNamespace(members=decoding or {}), batch=SimpleNamespace(prefilling=list(prefilling)))


@pytest.mark.pure("a stand-in for a pipeline")
def test_the_lane_of_the_request_that_waits_for_memory_is_asked_first_and_one_that_has_left_waits_for_none() -> None:
    request, other = SimpleNamespace(row=3), SimpleNamespace(row=4)
    places = [
        ([a_lane(0), a_lane(1, {3: request}), a_lane(2, {4: other})], 1),
        ([a_lane(0, {4: other}), a_lane(1), a_lane(2, prefilling=[request])], 2),
        ([a_lane(0, {3: request}), a_lane(1)], 0),
    ]
    for lanes, first in places:
        runner: Any = SimpleNamespace(lanes=lanes, claim=request, _next_lane=7)
        Pipeline._settle_claim(runner)
        assert runner.claim is request and runner._next_lane == first
    gone: Any = SimpleNamespace(lanes=[a_lane(0, {4: other}), a_lane(1)], claim=request, _next_lane=7)
    Pipeline._settle_claim(gone)
    assert gone.claim is None and gone._next_lane == 7
