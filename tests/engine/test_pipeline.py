"""Pipeline parallelism: micro-batches overlap on the stages, and nothing is lost between the lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.contracts import Step
from simserve.engine import InstanceSpec, simulate
from simserve.engine.records import RunRecords, Status
from simserve.engine.spec import LinkSpec
from simserve.policies import registry
from simserve.policies.registry import controller_class, scheduler_class
from simserve.workload.requests import RequestTable, Workload
from tests.engine.cluster_world import routed


class StagedCost:
    """A step takes `fraction[i]` of (1 s + 1 s per 100 prompt tokens) on stage i; decodes are free."""

    peak_flops_per_s = 1e12

    def __init__(self, *fraction: float) -> None:
        self._fraction = fraction
        self.stages = len(fraction)

    def step_time(self, step: Step) -> float:
        return 1.0 + sum(piece.new_tokens for piece in step.slices) / 100

    def decode_times(self, step: Step, steps: int) -> list[float]:
        return [1.0] * steps

    def stage_times(self, step: Step) -> tuple[float, ...]:
        return tuple(s * self.step_time(step) for s in self._fraction)

    def swap_time(self, tokens: int) -> float:
        return 0.5

    def flops(self, new_tokens: float, attended_pairs: float) -> float:
        return new_tokens

    def logits_flops(self, rows: float) -> float:
        return 0.0

    def describe(self) -> dict[str, Any]:
        return {}


def serve(
    table: RequestTable,
    cost: StagedCost,
    policy: str = "sarathi",
    blocks: int = 1000,
    check: bool = True,
    preemption: str = "recompute",
    **params: Any,
) -> RunRecords:
    cls = scheduler_class(policy)
    scheduler = cls(cls.Params(**params))
    host = 4 if preemption == "swap" else 0
    spec = InstanceSpec(
        "i", scheduler, cost, kv_blocks=blocks, max_seqs=scheduler.params.max_seqs, preemption=preemption, host_kv_blocks=host
    )
    return simulate(Workload(table), [spec], check=check)


def together(prompts: list[int], outputs: list[int], at: float = 0.0) -> RequestTable:
    return RequestTable.build(np.full(len(prompts), at), np.array(prompts), np.array(outputs))


def test_one_request_crosses_the_stages_one_after_the_other() -> None:
    records = serve(together([100], [3]), StagedCost(0.5, 0.25, 0.25), max_seqs=4)
    # Prefill takes 2 s over all stages, each of the two decode steps 1 s: a lone request gains nothing from the pipeline.
    assert records.requests.first_token_s[0] == pytest.approx(2.0)
    assert records.requests.finish_s[0] == pytest.approx(4.0)


def test_micro_batches_overlap_on_the_stages() -> None:
    table = together([100, 100], [1, 1])
    alone = serve(table, StagedCost(1.0), token_budget=100, max_seqs=1)
    staged = serve(table, StagedCost(0.5, 0.5), token_budget=100, max_seqs=1)
    assert alone.requests.finish_s.tolist() == [2.0, 4.0]
    # The second prompt enters stage 0 when the first has left it (1 s) and leaves stage 1 a stage later than the first.
    assert staged.requests.finish_s.tolist() == [2.0, 3.0]
    assert {int(lane) for lane in staged.emissions.lane} == {0, 1}


def test_the_slowest_stage_paces_the_pipeline() -> None:
    prompts = [100] * 12
    records = serve(together(prompts, [1] * 12), StagedCost(0.2, 0.6, 0.2), token_budget=100, max_seqs=1)
    gaps = np.diff(np.sort(records.requests.finish_s))
    assert gaps == pytest.approx([1.2] * 11)


def test_no_stage_works_on_two_micro_batches_at_once() -> None:
    rng = np.random.default_rng(3)
    table = RequestTable.build(np.sort(rng.uniform(0, 60, 80)), rng.integers(1, 400, 80), rng.integers(1, 20, 80))
    fraction = (0.3, 0.5, 0.2)
    records = serve(table, StagedCost(*fraction), token_budget=128, max_seqs=6)
    assert (records.requests.status == Status.COMPLETED).all()
    starts, works = [], []
    for lane in records.lanes:
        starts += lane.span_start_s.tolist()
        works += (1.0 + lane.span_prefill_tokens / 100).tolist()
    order = np.argsort(starts)
    start, work = np.array(starts)[order], np.array(works)[order]
    assert (start[1:] >= start[:-1] + fraction[0] * work[:-1] - 1e-9).all()


@pytest.mark.parametrize("policy", ["vllm-v0", "vllm-v1", "sarathi", "fastgen", "orca", "static"])
@pytest.mark.parametrize("preemption", ["recompute", "swap"])
def test_every_policy_serves_all_requests_on_a_pipeline_short_of_memory(policy: str, preemption: str) -> None:
    rng = np.random.default_rng(11)
    table = RequestTable.build(np.sort(rng.uniform(0, 30, 60)), rng.integers(1, 120, 60), rng.integers(1, 60, 60))
    records = serve(table, StagedCost(0.6, 0.4), policy, blocks=14, preemption=preemption, max_seqs=5)
    assert (records.requests.status == Status.COMPLETED).all()
    if policy not in ("orca", "static"):
        assert records.requests.preemptions.sum() > 0


@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize("policy", ["vllm-v1", "fastgen", "sarathi", "vllm-v0", "past-future"])
@pytest.mark.parametrize("order", ["fcfs", "priority"])
def test_lanes_that_want_each_others_memory_all_finish(policy: str, order: str, stages: int) -> None:
    """Prompts in small chunks that together do not fit: three lanes once preempted each other for ever, each prompt half computed.

    The memory holds the longest request and a little more, so lanes take from each other all the time.
    """
    rng = np.random.default_rng(stages)
    prompts, outputs = rng.integers(100, 300, 30), rng.integers(5, 20, 30)
    table = RequestTable.build(np.zeros(30), prompts, outputs, priority=rng.integers(0, 3, 30))
    budget = {"vllm-v1": "max_num_batched_tokens", "fastgen": "token_budget", "sarathi": "token_budget"}.get(policy)
    params: dict[str, Any] = {"max_seqs": 8, **({budget: 32} if budget else {})}
    cls = scheduler_class(policy)
    spec = InstanceSpec(
        "i",
        cls(cls.Params(**params)),
        StagedCost(*[1.0 / stages] * stages),
        kv_blocks=42,
        block_tokens=8,
        max_seqs=8,
        order=registry.order(order),
    )
    records = simulate(Workload(table), [spec], check=True)
    assert (records.requests.status == Status.COMPLETED).all()
    assert records.requests.preemptions.sum() > 0 or policy not in ("vllm-v1", "fastgen")


def test_the_request_that_came_first_keeps_its_memory() -> None:
    """Two lanes, a request each, 8 blocks of 4 tokens: each needs 6 at its end. The first is never preempted; the second gives way once."""
    table = RequestTable.build(np.array([0.0, 0.1]), np.array([8, 8]), np.array([16, 16]))
    cls = scheduler_class("vllm-v1")
    spec = InstanceSpec("i", cls(cls.Params(max_seqs=1)), StagedCost(0.5, 0.5), kv_blocks=8, block_tokens=4, max_seqs=1)
    records = simulate(Workload(table), [spec], check=True)
    assert records.requests.preemptions.tolist() == [0, 1]
    assert records.requests.finish_s[0] < records.requests.finish_s[1]


@pytest.mark.parametrize("policy", ["static", "sarathi", "vllm-v1", "orca", "fastgen"])
@pytest.mark.parametrize("push", [False, True])
def test_decode_pools_of_several_stages_short_of_memory(policy: str, push: bool) -> None:
    link = LinkSpec(bytes_per_s=1000.0, latency_s=0.1, kv_bytes_per_token=10.0)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        work = Workload(RequestTable.build(np.sort(rng.uniform(0, 1, 40)), rng.integers(10, 60, 40), rng.integers(5, 40, 40)))
        specs = []
        for name, role in (("p", "prefill"), ("d", "decode"), ("e", "decode")):
            cls = scheduler_class(policy if role == "decode" else "vllm-v1")
            shape: dict[str, Any] = {"kv_blocks": 15 if role == "decode" else 100, "block_tokens": 8, "max_seqs": 6, "role": role}
            specs.append(InstanceSpec(name, cls(cls.Params(max_seqs=6)), StagedCost(0.05, 0.05), link=link, **shape))
        records = simulate(work, specs, routed(push=push), check=True)
        assert (records.requests.status == Status.COMPLETED).all()


def test_an_arrived_request_counts_as_work_of_its_lane() -> None:
    """Orca gives a request all the memory of an instance. One that migrates in holds it before it has a sequence slot: the other lane's
    policy, which cannot admit any request meanwhile, was blamed."""
    link = LinkSpec(bytes_per_s=1000.0, latency_s=0.05, kv_bytes_per_token=10.0)
    cls = scheduler_class("orca")
    specs = [
        InstanceSpec(f"i{k}", cls(cls.Params()), StagedCost(0.1, 0.1), kv_blocks=1, block_tokens=16, max_seqs=16, link=link) for k in (0, 1)
    ]
    rng = np.random.default_rng(1)
    work = Workload(RequestTable.build(np.sort(rng.uniform(0, 20, 60)), np.ones(60, dtype=np.int64), rng.integers(1, 4, 60)))
    migration = controller_class("llumnix-migration")
    records = simulate(work, specs, routed(controllers=(migration(migration.Params()),)), check=True)
    assert (records.requests.status == Status.COMPLETED).all()
    assert records.moves is not None and (records.moves.outcome == 0).any()
