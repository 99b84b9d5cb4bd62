"""A client of the contracts: a cost model that needs the contexts of the requests of a step, not only their sum."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.contracts import CostWrapper, Step
from simserve.engine import InstanceSpec, simulate
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.reference.toy_cost import RoundCost


class InWaves(CostWrapper):
    """Attention in waves of 2 requests, each as long as its longest: 1 ms a token of it."""

    seen: list[tuple[int, ...]]

    def stage_times(self, step: Step) -> tuple[float, ...]:
        contexts = sorted(step.contexts(), reverse=True)
        assert sum(contexts) == step.context_tokens
        assert max(contexts, default=0) == step.longest_tokens
        assert len(contexts) == step.decodes
        (seconds,) = self.inner.stage_times(step)
        return (seconds + sum(contexts[::2]) * 1e-3,)


@pytest.mark.parametrize("fast_forward", [True, False])
def test_each_step_is_priced_by_its_requests(fast_forward: bool) -> None:
    prompts = [4, 40, 8]
    table = RequestTable.build(np.zeros(3), np.array(prompts), np.full(3, 6))
    cls = scheduler_class("sarathi")
    spec = InstanceSpec("i", cls(cls.Params(token_budget=512, max_seqs=8)), InWaves(RoundCost()), kv_blocks=100, block_tokens=4)
    records = simulate(Workload(table), [spec], fast_forward=fast_forward)
    # All prompts in one step of 52 tokens, then five steps of three decodes: 1/4 s, and the waves (41 + i, 9 + i) and (5 + i).
    ends = [0.25 * (1 + 52 // 8)]
    for i in range(5):
        ends.append(ends[-1] + 0.25 + (41 + i + 5 + i) * 1e-3)
    assert records.lanes[0].step_end_s.tolist() == pytest.approx(ends, abs=1e-12)


def test_checked_runs_agree() -> None:
    table = RequestTable.build(np.arange(6) * 0.3, np.array([4, 40, 8, 3, 90, 17]), np.array([6, 30, 2, 9, 14, 40]))
    cls = scheduler_class("vllm-v1")
    spec = InstanceSpec("i", cls(cls.Params(max_seqs=4)), InWaves(RoundCost()), kv_blocks=60, block_tokens=4)
    simulate(Workload(table), [spec], check=True)


def test_contexts_that_are_not_told_are_made_up_from_total_and_longest() -> None:
    assert Step(4, 100, 40).contexts() == (40, 20, 20, 20)
    assert Step(3, 11, 4).contexts() == (4, 4, 3)
    assert Step(1, 7, 7).contexts() == (7,)
    assert Step(0).contexts() == ()
    assert Step.of([3, 9, 5]).contexts() == (3, 9, 5)
    assert Step.of([3, 9, 5]).after(2).contexts() == (5, 11, 7)
    later = Step(4, 100, 40).after(3)
    assert (later.decodes, later.context_tokens, later.longest_tokens) == (4, 112, 43)
