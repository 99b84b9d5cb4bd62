"""Sparse attention: an indexer looks at every cached token, attention at a few."""

from __future__ import annotations

from simserve.contracts import Slice, Step
from simserve.cost.step import StepCost
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model


def build(model: str) -> StepCost:
    return StepCost(load_model(model), load_profile("h200-sxm-141gb"), None, Parallel(8), backend="sglang", max_context_tokens=131_072)


def test_long_contexts_cost_a_sparse_model_less_and_short_ones_more() -> None:
    sparse, dense = build("deepseek-ai/DeepSeek-V3.2"), build("deepseek-ai/DeepSeek-R1")

    def step(cost: StepCost, context: int) -> float:
        return cost.step_time(Step(32, 32 * context, context, []))

    assert step(sparse, 1000) > step(dense, 1000)
    assert step(sparse, 100_000) < step(dense, 100_000)
    assert step(sparse, 100_000) > step(sparse, 10_000) > step(sparse, 1000), "the indexer still reads every key"


def test_the_indexers_scores_of_a_prompt_grow_with_its_square() -> None:
    sparse = build("deepseek-ai/DeepSeek-V3.2")
    parts = [sparse.breakdown(Step(0, 0, 0, [Slice(n, 0)]))["attention_prefill"] for n in (16_384, 32_768, 65_536)]
    assert 2.2 < parts[1] / parts[0] < 4.2
    assert 2.5 < parts[2] / parts[1] < 4.2


def test_a_result_says_that_it_was_not_measured() -> None:
    assert any("indexer_scores" in name for name in build("deepseek-ai/DeepSeek-V3.2").describe()["unvalidated"])
