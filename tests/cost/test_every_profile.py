"""Every bundled hardware profile gives physical, monotone answers for dense, expert and latent-attention models."""

from __future__ import annotations

from itertools import pairwise

import pytest

from simserve import resources
from simserve.contracts import Slice, Step
from simserve.cost.host import HostOverheads
from simserve.cost.step import StepCost
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.parallel import Parallel

HOST = HostOverheads(cuda_graph_sizes=(1, 2, 4, 8, 16, 32, 64, 128, 256))
CASES = [
    ("llama-3.1-8b", Parallel()),
    ("llama-3.1-70b", Parallel(tp=8)),
    ("qwen3-32b-fp8", Parallel(tp=2)),
    ("mixtral-8x7b", Parallel(tp=4)),
    ("qwen3-30b-a3b", Parallel(tp=2, ep=2)),
    ("deepseek-v3", Parallel(tp=8, ep=8)),
    ("deepseek-v3", Parallel(dp=16, ep=16)),
]


@pytest.mark.parametrize("hardware", resources.available("hardware_profiles"))
@pytest.mark.parametrize(("name", "parallel"), CASES, ids=[f"{n}-tp{p.tp}-ep{p.ep}" for n, p in CASES])
def test_answers_are_monotone_and_below_the_peak(hardware: str, name: str, parallel: Parallel) -> None:
    cost = StepCost(load_model(name), load_profile(hardware), HOST, parallel, backend="vllm", max_context_tokens=32768)
    by_batch = [cost.step_time(Step(n, n * 1000, 1000)) for n in range(1, 257, 3)]
    by_tokens = [cost.step_time(Step(0, 0, 0, [Slice(m, 0)])) for m in range(1, 8193, 61)]
    for times in (by_batch, by_tokens):
        assert all(a <= b for a, b in pairwise(times))
    useful = cost.flops(8192, 8192 * 8193 / 2) + cost.logits_flops(1)
    assert useful / cost.step_time(Step(0, 0, 0, [Slice(8192, 0)])) < cost.peak_flops_per_s
    assert by_batch[-1] < 86 * by_batch[0], "a batch shares the reading of the weights"


@pytest.mark.parametrize("hardware", resources.available("hardware_profiles"))
def test_more_devices_are_slower_only_by_communication(hardware: str) -> None:
    parts = []
    for tp in (2, 4, 8):
        cost = StepCost(load_model("llama-3.1-70b"), load_profile(hardware), HOST, Parallel(tp=tp), max_context_tokens=8192)
        step = cost.breakdown(Step(16, 16_000, 1000, [Slice(496, 0)]))
        parts.append(sum(step.values()) - step["collective"] - step.get("lm_head", 0.0))
    assert parts[0] > parts[1] > parts[2]
