"""The same engine on servers with CPUs of other speed."""

from __future__ import annotations

import pytest

from simserve.config.engine_profile import host_speed, load_engine
from simserve.contracts import Step
from simserve.cost.host import HostOverheads
from simserve.cost.step import StepCost
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model


def test_host_work_takes_as_much_longer_as_the_host_is_slower() -> None:
    host = HostOverheads(0.001, 1e-5, 1e-6, None, (1, 2))
    half = host.on(0.5)
    assert (half.per_step_s, half.per_decode_request_s, half.per_prefill_token_s) == (0.002, 2e-5, 2e-6)
    assert half.kernel_launch_s is None
    assert half.cuda_graph_sizes == (1, 2)
    assert HostOverheads(kernel_launch_s=1e-5).on(0.5).kernel_launch_s == 2e-5


@pytest.mark.parametrize(("hardware", "tp", "measured_ms"), [("a100-sxm-80gb", 8, 44.9), ("h100-sxm-80gb", 8, 29.7)])
def test_steps_bound_by_launches_take_what_each_machine_took(hardware: str, tp: int, measured_ms: float) -> None:
    """Llama-2-70B, one sequence, vLLM of 2023 (Mutinifni/splitwise-sim): with eight devices only the host decides."""
    engine = load_engine("vllm-2023")
    host = HostOverheads(**engine.host.model_dump()).on(host_speed(engine, hardware))
    cost = StepCost(load_model("llama-2-70b"), load_profile(hardware), host, Parallel(tp), backend=engine.kernel_backend)
    assert cost.step_time(Step(1, 600, 600, [])) == pytest.approx(measured_ms * 1e-3, rel=0.08)


def test_only_profiles_that_say_so_know_slower_hosts() -> None:
    assert host_speed(load_engine("vllm-v1"), "a100-sxm-80gb") == 1.0
    assert host_speed(load_engine("vllm-2023"), "h100-sxm-80gb") == 1.0
