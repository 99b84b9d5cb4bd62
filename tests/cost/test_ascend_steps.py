"""Steps on Ascend: graphs cut at every layer, tokens that each rank sends for itself, and what a run says of its operators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simserve.contracts import Slice, Step
from simserve.cost.host import HostOverheads
from simserve.cost.kernels import KernelChoice
from simserve.cost.step import StepCost
from simserve.errors import ConfigError
from simserve.hardware import load_profile
from simserve.model import Parallel, load_model
from simserve.model.layout import layer_operators
from simserve.model.operators import ExpertExchange

SIZES = (1, 2, 4, 8)


def test_a_graph_cut_at_every_layer_takes_a_launch_for_each_where_the_device_is_faster() -> None:
    model, profile = load_model("qwen3-8b"), load_profile("ascend-910b")
    whole = StepCost(model, profile, HostOverheads(cuda_graph_sizes=SIZES))
    cut = whole.with_host(HostOverheads(cuda_graph_sizes=SIZES, per_graph_piece_s=1e-3))
    step = Step(4, 400, 100)
    assert cut.step_time(step) == pytest.approx(model.num_layers * 1e-3)
    assert whole.step_time(step) < cut.step_time(step)
    barely = whole.with_host(HostOverheads(cuda_graph_sizes=SIZES, per_graph_piece_s=1e-6))
    assert barely.step_time(step) == whole.step_time(step)  # the launches hide behind the device's work
    assert cut.breakdown(step)["launch"] == pytest.approx(cut.step_time(step) - whole.step_time(step))


def test_steps_outside_graphs_do_not_know_of_pieces() -> None:
    model, profile = load_model("qwen3-8b"), load_profile("ascend-910b")
    host = HostOverheads(cuda_graph_sizes=SIZES, kernel_launch_s=1e-4)
    for step in (Step(16, 1600, 100), Step(2, 200, 100, [Slice(64, 0)])):
        times = [StepCost(model, profile, replace(host, per_graph_piece_s=piece)).step_time(step) for piece in (0.0, 1e-2)]
        assert times[0] == times[1]


def test_a_faster_host_launches_pieces_faster_and_no_time_is_negative() -> None:
    assert HostOverheads(per_graph_piece_s=1e-3).on(2.0).per_graph_piece_s == 5e-4
    with pytest.raises(ConfigError, match="per_graph_piece_s"):
        HostOverheads(per_graph_piece_s=-1.0)


def test_each_rank_of_a_replica_sends_its_part_in_eight_bits() -> None:
    profile = load_profile("ascend-910c")
    model = load_model("qwen3-30b-a3b", quantisation="w8a8_int8")

    def dispatch(tp: int, quantised: bool = True) -> ExpertExchange:
        shape = model if quantised else load_model("qwen3-30b-a3b")
        found = (op for op in layer_operators(shape, Parallel(tp, 1, 2, 2 * tp), 1) if isinstance(op, ExpertExchange))
        return next(op for op in found if op.name == "moe_dispatch")

    kernels, tokens = KernelChoice(profile), np.array([4096.0])
    floor = 4.5e-5
    sixteen, eight = (float(kernels.exchange(dispatch(1, q), tokens)[0]) - floor for q in (False, True))
    assert eight == pytest.approx(sixteen / 2, rel=1e-6)
    alone, shared = dispatch(1), replace(dispatch(4), group=2)
    assert float(kernels.exchange(shared, tokens)[0]) - floor == pytest.approx(
        (float(kernels.exchange(alone, tokens)[0]) - floor) / 4, rel=1e-6
    )


def test_devices_with_tables_send_what_they_sent() -> None:
    model = load_model("qwen3-30b-a3b", quantisation="w8a8_int8")
    op = next(o for o in layer_operators(model, Parallel(4, 1, 2, 8), 1) if isinstance(o, ExpertExchange))
    plain = replace(op, tensor_parallel=1, eight_bit=False)
    kernels, tokens = KernelChoice(load_profile("h100-sxm-80gb")), np.array([64.0, 4096.0])
    assert kernels.exchange(op, tokens).tolist() == kernels.exchange(plain, tokens).tolist()


def test_linear_attention_of_prompts_reads_its_state_once_a_chunk() -> None:
    model, profile = load_model("qwen3.5-35b-a3b"), load_profile("ascend-910c")
    cost = StepCost(model, profile)
    part = "linear_attention"
    decode, prompt = cost.breakdown(Step(256, 256_000, 1_000))[part], cost.breakdown(Step(0, slices=[Slice(2048, 0)]))[part]
    assert prompt < 2.5 * decode  # eight times the tokens


def test_a_description_lists_what_stands_behind_each_operator() -> None:
    cost = StepCost(load_model("qwen3-30b-a3b"), load_profile("ascend-910b"), parallel=Parallel(2, 1, 1, 1))
    about = cost.describe()
    status = {entry["operator"]: entry["status"] for entry in about["efficiencies"]}
    assert status["gemm"] == status["all_reduce"] == "measured"
    assert status["moe"] == "fitted" and status["attention_decode"] == "assumed"
    assert any("fitted efficiency" in name for name in about["unvalidated"])
    assert not any("gemm" in name for name in about["unvalidated"])
    assert "efficiencies" not in StepCost(load_model("qwen3-8b"), load_profile("h100-sxm-80gb")).describe()
