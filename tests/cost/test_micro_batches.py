"""Two halves of a step, one computing while the other is on its way; experts that wait for the most loaded rank."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.contracts import Slice, Step
from simserve.contracts.cost import CostModel
from simserve.cost.micro_batches import MicroBatched, _halves, micro_batched
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.errors import ModelError
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model


class Lines(CostModel):
    """Computation and communication in proportion to the tokens, with what each step pays anyway."""

    def __init__(self, compute: float, sent: float, fixed: float = 0.0, host: float = 0.0) -> None:
        self.compute, self.sent, self.fixed, self.host = compute, sent, fixed, host

    def breakdown(self, step: Step) -> dict[str, float]:
        tokens = step.decode_tokens + sum(piece.new_tokens for piece in step.slices)
        return {"gemm": self.fixed + self.compute * tokens, "expert_exchange": self.sent * tokens, "host": self.host}

    def stage_times(self, step: Step) -> tuple[float, ...]:
        return (sum(self.breakdown(step).values()),)

    def describe(self) -> dict[str, object]:
        return {"unvalidated": ["lines"]}


STEP = Step(64, 64_000, 1_000)


def test_what_is_sent_hides_behind_what_is_computed_and_the_other_way_round() -> None:
    assert MicroBatched(Lines(3.0, 1.0), 2, 1.0).step_time(STEP) == pytest.approx(3.0 * 64)
    assert MicroBatched(Lines(1.0, 3.0), 2, 1.0).step_time(STEP) == pytest.approx(3.0 * 64)


def test_what_every_step_pays_is_paid_twice_but_for_the_host() -> None:
    assert MicroBatched(Lines(3.0, 1.0, fixed=10.0, host=5.0), 2, 1.0).step_time(STEP) == pytest.approx(3.0 * 64 + 20.0 + 5.0)


def test_the_most_loaded_rank_stretches_experts_and_their_exchange_alone() -> None:
    whole = MicroBatched(Lines(3.0, 1.0), 1, 1.5)
    assert whole.step_time(STEP) == pytest.approx((3.0 + 1.5) * 64)
    assert whole.describe()["unvalidated"] == ["lines", "the most loaded rank has 1.5 times the mean load of experts"]


def test_nothing_is_wrapped_where_nothing_is_asked() -> None:
    inner = Lines(1.0, 1.0)
    assert micro_batched(inner, CostOptions()) is inner
    assert isinstance(micro_batched(inner, CostOptions(micro_batches=2)), MicroBatched)


@given(
    decodes=st.integers(0, 300), drafted=st.integers(0, 3), context=st.integers(1, 5000), chunks=st.lists(st.integers(1, 4000), max_size=5)
)
def test_halves_hold_every_token_once(decodes: int, drafted: int, context: int, chunks: list[int]) -> None:
    step = Step(decodes, decodes * context, context, [Slice(new, 7) for new in chunks], decodes * drafted)
    halves = _halves(step)
    assert sum(half.decodes for half in halves) == decodes
    assert sum(half.drafted_tokens for half in halves) == (decodes * drafted if decodes + sum(chunks) else 0)
    assert sum(piece.new_tokens for half in halves for piece in half.slices) == sum(chunks)
    assert sum(half.context_tokens for half in halves) == pytest.approx(decodes * context, abs=2)
    pieces = sorted(piece.context_tokens for half in halves for piece in half.slices)
    assert all(there >= 7 for there in pieces)


def test_a_prompt_cut_in_two_attends_its_first_half() -> None:
    first, second = _halves(Step(0, slices=[Slice(101, 20)]))
    assert [tuple(half.slices[0])[:2] for half in (first, second)] == [(51, 20), (50, 71)]


def test_options_reach_a_deployed_model_and_a_dense_one_has_no_experts_to_balance() -> None:
    profile = load_profile("ascend-910c-supernode")
    with pytest.raises(ModelError, match="has no experts"):
        StepCost(load_model("qwen3-8b"), profile, options=CostOptions(expert_imbalance=1.5))
    model = load_model("qwen3-30b-a3b")
    cost = StepCost(model, profile, parallel=Parallel(1, 1, 8, 8))
    prompts = Step(0, slices=[Slice(2048, 0)] * 16)
    assert MicroBatched(cost, 2, 1.0).step_time(prompts) < cost.step_time(prompts)
    assert MicroBatched(cost, 1, 2.0).step_time(prompts) > cost.step_time(prompts)
