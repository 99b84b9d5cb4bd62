"""What cost models and controllers are told adds up: the sequences of a step, the requests of an instance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.contracts import CostModel, Load, PolicyParams, Step
from simserve.engine import ClusterSpec, InstanceSpec, simulate
from simserve.engine.records import RunRecords
from simserve.policies.registry import scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.engine.speculation.toys import KINDS, Drafting, Verifying
from tests.reference.toy_cost import RoundCost


class Asking(Verifying):
    """Asks of each step what its sequences attend and compute."""

    def __init__(self, inner: CostModel) -> None:
        super().__init__(inner)
        self.asked: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def stage_times(self, step: Step) -> tuple[float, ...]:
        contexts, widths = tuple(step.contexts()), tuple(step.widths())
        assert len(contexts) == len(widths) == step.decodes and sum(contexts) == step.context_tokens
        assert sum(widths) == step.decode_tokens and max(contexts, default=0) == step.longest_tokens
        self.asked.append((contexts, widths))
        return super().stage_times(step)


def run(drafting: Drafting | None, **options: Any) -> tuple[Asking, RunRecords]:
    cost = Asking(RoundCost())
    table = RequestTable.build(0.5 * np.arange(3.0), np.array([5, 9, 13]), np.array([30, 20, 25]))
    cls = scheduler_class("sarathi")
    spec = InstanceSpec("i", cls(cls.Params(token_budget=64)), cost, kv_blocks=100, block_tokens=4, speculation=drafting)
    return cost, simulate(Workload(table), [spec], **options)


@pytest.mark.parametrize("drafting", [None, *KINDS])
def test_the_sequences_of_a_step_are_told_alike_in_spans_and_step_by_step(drafting: Drafting | None) -> None:
    """A step that decodes has the same sequences whether it is taken alone or in a span; the order is that of joining."""
    (spans, fast), (steps, slow) = run(drafting), run(drafting, fast_forward=False)
    assert fast.requests.finish_s.tolist() == slow.requests.finish_s.tolist()
    assert set(steps.asked) <= set(spans.asked)
    assert any(len(contexts) == 3 for contexts, _ in steps.asked)


def test_three_sequences_of_a_speculating_instance() -> None:
    """Prompts of 5, 9 and 13 tokens; when the third has joined each attends its own context and three drafted tokens beside its next."""
    cost, _ = run(Drafting(3, right=0), fast_forward=False)
    contexts, widths = next(each for each in cost.asked if len(each[0]) == 3)
    assert widths == (4, 4, 4) and contexts[2] == 13 + 4 and contexts[0] > 5 + 4 and contexts[1] > 9 + 4


class Looking:
    """A controller that notes the load of the only instance, and when."""

    Params = PolicyParams
    idle = True
    interval_s = 0.3

    def __init__(self) -> None:
        self.seen: list[tuple[float, Load]] = []

    def act(self, cluster: Any) -> None:
        self.seen.append((cluster.now, cluster.load(0)))


@pytest.mark.parametrize(("preemption", "host"), [("recompute", 0), ("swap", 100)])
@pytest.mark.parametrize("policy", ["vllm-v0", "sarathi", "vllm-v1"])
def test_every_request_of_an_instance_runs_or_waits(policy: str, preemption: Any, host: int) -> None:
    """16 requests that outgrow 20 blocks of 4 tokens: those that are preempted count as waiting, those that are swapped out as running."""
    looking = Looking()
    table = RequestTable.build(0.25 * np.arange(16.0), np.full(16, 8), np.full(16, 24))
    cls = scheduler_class(policy)
    spec = InstanceSpec(
        "i", cls(cls.Params()), RoundCost(), kv_blocks=20, block_tokens=4, preemption=preemption, host_kv_blocks=host, max_seqs=8
    )
    records = simulate(Workload(table), [spec], ClusterSpec(controllers=(looking,)), check=True)
    assert records.requests.preemptions.sum() > 0 and len(looking.seen) > 20
    released, finish = records.requests.released_s, records.requests.finish_s
    for now, load in looking.seen:
        before = int(np.count_nonzero((released <= now) & (finish > now)))
        tied = int(np.count_nonzero((released == now) | (finish == now)))
        assert abs(load.running + load.waiting - before) <= tied, now
        assert load.total_blocks == 20 and 0 <= load.free_blocks <= 20 and (load.head_blocks > 0) == (load.waiting > 0)
