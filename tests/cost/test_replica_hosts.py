"""Attention replicas: each has a process of its own, with its own CUDA graphs and its own part of the requests."""

from __future__ import annotations

import pytest

from simserve.contracts import Slice, Step
from simserve.cost.host import HostOverheads
from simserve.cost.step import StepCost
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model

HOST = HostOverheads(1e-3, 1e-4, 1e-5, 3e-5, (64,))


def cost(dp: int, host: HostOverheads) -> StepCost:
    parallel = Parallel(8 // dp, 1, dp, 8)
    return StepCost(load_model("qwen3-235b-a22b-fp8"), load_profile("h200-sxm-141gb"), host, parallel, max_context_tokens=2048)


def test_a_batch_runs_in_graphs_when_each_replicas_part_fits_one() -> None:
    step = Step(512, 512 * 500, 500)
    assert "launch" not in cost(8, HOST).breakdown(step)
    assert cost(8, HOST).breakdown(Step(520, 520 * 500, 500))["launch"] > 0.0
    assert cost(1, HOST).breakdown(step)["launch"] > 0.0
    # 65 to 512 sequences run at the size of full graphs
    dense, full = (cost(8, HOST).breakdown(Step(n, n * 500, 500)) for n in (480, 512))
    assert dense["moe"] == full["moe"]


def test_each_replica_does_its_own_part_of_the_host_work() -> None:
    step = Step(64, 64 * 500, 500, [Slice(800, 0)])
    assert cost(8, HOST).breakdown(step)["host"] == pytest.approx(1e-3 + 8 * 1e-4 + 100 * 1e-5)
    assert cost(1, HOST).breakdown(step)["host"] == pytest.approx(1e-3 + 64 * 1e-4 + 800 * 1e-5)
    free = HostOverheads(kernel_launch_s=0.0, cuda_graph_sizes=(64,))
    busy = HostOverheads(1e-3, 1e-4, 1e-5, 0.0, (64,))
    for each, host in ((step, 1e-3 + 8e-4 + 1e-3), (Step(64, 64 * 500, 500), 1e-3 + 8e-4)):
        assert cost(8, busy).step_time(each) - cost(8, free).step_time(each) == pytest.approx(host)
