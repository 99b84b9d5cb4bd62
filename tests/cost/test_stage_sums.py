"""Stage times come from sums that are made once, and are those of the parts added up one by one, to the last bit."""

import random

import pytest

from simserve.contracts import Slice, Step
from simserve.cost.host import HostOverheads
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.cost.verification import folded
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.parallel import Parallel

HOST = HostOverheads(per_step_s=1e-3, per_decode_request_s=1e-5, per_prefill_token_s=1e-7, cuda_graph_sizes=(1, 2, 4, 8, 16, 32))
MODELS = [
    ("llama-2-7b", Parallel(pp=4), 1.0),
    ("llama-2-7b", Parallel(pp=3), 1.0),
    ("qwen3-30b-a3b", Parallel(tp=2, pp=2), 1.0),
    ("deepseek-v2-lite", Parallel(pp=2), 1.0),
    ("llama-2-7b", Parallel(pp=4), 0.7),  # the first stages skip no layer for prompts, the last one does
]


def from_parts(cost: StepCost, step: Step) -> list[float]:
    step = folded(step)
    n, new = step.decodes, sum(piece[0] for piece in step.slices)
    out = []
    for stage in cost._stages:
        device_s = sum(cost._device_parts(stage, step).values())
        seconds = max(device_s, cost._launch_floor(stage, n, bool(step.slices), step.drafted_tokens))
        send = stage.stage_transfer
        out.append(seconds + (send[0] + send[1] * (step.decode_tokens + new) if send else 0.0))
    out[0] += cost._host_seconds(n, new)
    return out


@pytest.mark.parametrize(("model", "parallel", "early"), MODELS)
def test_stage_times_are_the_parts_added_up(model: str, parallel: Parallel, early: float) -> None:
    options = CostOptions(prefill_layer_fraction=early)
    cost = StepCost(load_model(model), load_profile("h100-sxm-80gb"), HOST, parallel, options=options)
    draw = random.Random(1)
    for _ in range(400):
        contexts = [draw.randrange(1, 4000) for _ in range(draw.choice((0, 1, 3, 40)))]
        slices = [Slice(draw.randrange(1, 600), draw.randrange(0, 3000)) for _ in range(draw.choice((0, 0, 1, 3)) or (not contexts))]
        step = Step.of(contexts, slices)
        assert list(cost.stage_times(step)) == from_parts(cost, step)
        other = cost.with_host(HostOverheads(per_step_s=2e-3))
        assert list(other.stage_times(step)) == from_parts(other, step)


@pytest.mark.parametrize(("model", "parallel", "early"), MODELS)
@pytest.mark.parametrize("steps", [1, 7, 90])
def test_decode_steps_ahead_are_those_steps(model: str, parallel: Parallel, early: float, steps: int) -> None:
    cost = StepCost(load_model(model), load_profile("h100-sxm-80gb"), HOST, parallel, options=CostOptions(prefill_layer_fraction=early))
    step = Step.of([100, 3000, 17])
    ahead = [tuple(row) for row in cost.stage_decode_times(step, steps)]
    assert ahead == [tuple(cost.stage_times(step.after(i))) for i in range(steps)]


def test_stages_of_alike_layers_share_their_attention() -> None:
    profile = load_profile("h100-sxm-80gb")
    even = StepCost(load_model("llama-2-7b"), profile, HOST, Parallel(pp=4))
    assert len({id(stage.decode) for stage in even._stages}) == len({id(stage.prefill) for stage in even._stages}) == 1
    uneven = StepCost(load_model("llama-2-7b"), profile, HOST, Parallel(pp=3))  # 32 layers: 11, 11, 10
    assert len({id(stage.decode) for stage in uneven._stages}) == 2
