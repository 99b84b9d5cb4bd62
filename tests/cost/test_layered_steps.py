"""Steps whose chunks pass through one group of layers, and how many experts a step reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simserve
from simserve.contracts import Slice, Step
from simserve.cost.energy import expert_bytes, traffic
from simserve.cost.experts import coverage
from simserve.cost.host import HostOverheads
from simserve.cost.layered import group_layers
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.errors import ModelError
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.parallel import Parallel

H100 = load_profile("h100-sxm-80gb")
HOST = HostOverheads(per_step_s=1e-3, per_decode_request_s=1e-5, per_prefill_token_s=1e-7)
QWEN = StepCost(load_model("qwen3-30b-a3b"), H100, HOST, Parallel(tp=2), max_context_tokens=32768)
OSS = StepCost(load_model("gpt-oss-20b"), H100, HOST, Parallel(tp=2), max_context_tokens=32768)
DENSE = StepCost(load_model("qwen3-8b"), H100, HOST, Parallel(tp=2), max_context_tokens=32768)
COSTS = {"qwen3-30b-a3b": QWEN, "gpt-oss-20b": OSS, "qwen3-8b": DENSE}
DECODES = (32, 32 * 4000, 5000)


def chunks(sizes: list[tuple[int, int]], layers: tuple[int, int] | None = None) -> list[Slice]:
    return [Slice(new, context, layers) for new, context in sizes]


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("groups", [2, 5, 16])
def test_a_sweep_over_the_groups_does_the_work_of_one_step(name: str, groups: int) -> None:
    """Without decodes, all groups together cost each part of an ordinary step once, and the host's share of a step each time."""
    sizes = [(3000, 0), (700, 4096)]
    whole = COSTS[name].breakdown(Step(0, 0, 0, chunks(sizes)))
    swept: dict[str, float] = {}
    for group in range(groups):
        for part, seconds in COSTS[name].breakdown(Step(0, 0, 0, chunks(sizes, (group, groups)))).items():
            swept[part] = swept.get(part, 0.0) + seconds
    assert swept.pop("host") == pytest.approx(whole.pop("host") + (groups - 1) * HOST.per_step_s)
    swept.pop("launch", None)
    assert swept == pytest.approx(whole, rel=0.01)


@pytest.mark.parametrize("name", COSTS)
def test_one_group_is_an_ordinary_step(name: str) -> None:
    """Cut into one group, the step costs what it costs uncut (the engine does not even ask for it so)."""
    cost = COSTS[name]
    for sizes in ([(480, 0)], [(3000, 0), (700, 4096)]):
        assert cost.step_time(Step(*DECODES, chunks(sizes, (0, 1)))) == pytest.approx(
            cost.step_time(Step(*DECODES, chunks(sizes))), rel=0.01
        )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(COSTS)), st.integers(0, 64), st.integers(1, 9000), st.integers(2, 24), st.data())
def test_the_parts_add_up_and_lie_between_the_steps_around_them(name: str, n: int, new: int, groups: int, data: st.DataObject) -> None:
    """A step with one group is more expensive than its decodes alone and cheaper than the same chunk in all layers."""
    cost = COSTS[name]
    state = (n, n * 2000, 3000 if n else 0)
    prefills = chunks([(new, 512)], (data.draw(st.integers(0, groups - 1)), groups))
    seconds = cost.step_time(Step(*state, prefills))
    assert sum(cost.breakdown(Step(*state, prefills)).values()) == seconds
    assert cost.stage_times(Step(*state, prefills)) == (seconds,)
    assert seconds <= cost.step_time(Step(*state, chunks([(new, 512)]))) * 1.001
    if n:
        without = cost.breakdown(Step(*state))
        assert seconds >= sum(seconds for part, seconds in without.items() if part != "launch") * 0.999


def test_who_gains_when_a_layer_sees_a_long_prompt_once() -> None:
    """16 chunks of 512 tokens beside 8 decodes against the same prompt in 16 groups. With 128 experts, most of which 8 decodes leave
    unread, the groups are faster; a dense layer reads its weights for the decodes anyway, and there the chunks are."""
    few = (8, 8 * 4000, 5000)
    times = {}
    for name, cost in COSTS.items():
        chunked = sum(cost.step_time(Step(*few, chunks([(512, 512 * i)]))) for i in range(16))
        times[name] = sum(cost.step_time(Step(*few, chunks([(8192, 0)], (g, 16)))) for g in range(16)) / chunked
    assert times["qwen3-30b-a3b"] < 0.8
    assert times["qwen3-8b"] > 1.0


def test_groups_are_contiguous_and_even() -> None:
    for layers in (5, 24, 36, 48):
        for groups in range(1, layers + 1):
            parts = [group_layers(layers, g, groups) for g in range(groups)]
            assert [layer for part in parts for layer in part] == list(range(layers))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(ModelError, match="25 groups of layers, the model has 24 layers"):
        group_layers(24, 0, 25)


def test_what_is_not_modelled_is_refused() -> None:
    prefills = chunks([(100, 0)], (0, 2))
    staged = StepCost(load_model("qwen3-8b"), H100, HOST, Parallel(pp=2), max_context_tokens=4096)
    with pytest.raises(ModelError, match="one pipeline stage"):
        staged.stage_times(Step(0, 0, 0, prefills))
    skipping = StepCost(load_model("qwen3-8b"), H100, HOST, max_context_tokens=4096, options=CostOptions(prefill_layer_fraction=0.5))
    with pytest.raises(ModelError, match="prefill_layer_fraction"):
        skipping.step_time(Step(0, 0, 0, prefills))


# -- experts -----------------------------------------------------------------------------------------------------------------------


def test_the_published_coverage_of_qwen3() -> None:
    """arXiv 2510.08055: below 50 % of 128 experts at 16 tokens, about 55 % at 32, below 70 % at 64 (the fit: 70), 86.3 % at 128."""
    found = 100 * coverage(np.array([16.0, 32, 64, 128, 256, 512]), 128, 8)
    assert found == pytest.approx([37, 53, 70, 87, 96, 100], abs=2)
    assert found[0] < 50 and found[1] == pytest.approx(55, abs=3) and found[3] == pytest.approx(86.3, abs=1)


def test_coverage_is_what_drawing_gives() -> None:
    """Against a Monte Carlo of the draw itself: Gumbel top-k of Zipf popularities."""
    random = np.random.Generator(np.random.PCG64(0))
    for experts, chosen, tokens in ((128, 8, 32), (32, 4, 8), (8, 2, 3)):
        keys = -1.3 * np.log(np.arange(1, experts + 1)) + random.gumbel(size=(400, tokens, experts))
        top = np.argpartition(-keys, chosen - 1, axis=2)[:, :, :chosen].reshape(400, -1)
        drawn = np.mean([len(np.unique(row)) for row in top]) / experts
        assert coverage(np.array([float(tokens)]), experts, chosen)[0] == pytest.approx(drawn, abs=0.01)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.sampled_from([(128, 8), (32, 4), (8, 2), (64, 6), (256, 8), (4, 4)]), st.lists(st.integers(0, 5000), min_size=1))
def test_coverage_has_its_limits(layout: tuple[int, int], tokens: list[int]) -> None:
    """Nothing for no token, k of E for one, never more than all, never falling, never more than each token's own choice."""
    experts, chosen = layout
    counts = np.array(sorted([0, 1, *tokens]), dtype=np.float64)
    fraction = coverage(counts, experts, chosen)
    assert fraction[0] == 0.0
    assert fraction[counts == 1] == pytest.approx(chosen / experts, rel=1e-4)
    assert bool((np.diff(fraction) >= -1e-12).all()) and bool((fraction <= 1.0).all())
    assert bool((fraction <= counts * chosen / experts + 1e-6).all())
    even = 1.0 - (1.0 - chosen / experts) ** counts
    assert bool((fraction <= even + 1e-6).all()), "a skewed choice touches fewer experts than an even one"


def test_the_bank_of_qwen3() -> None:
    """48 layers x 128 experts x 3 matrices of 2,048 x 768 in 2 bytes: 58 GB, on however many devices."""
    model = load_model("qwen3-30b-a3b")
    bank = 48 * 128 * 3 * 2048 * 768 * 2
    for tp in (1, 2):
        assert traffic(model, Parallel(tp=tp)).expert_bytes == bank
    one = np.ones(1)
    assert expert_bytes(model, Parallel(tp=2), 3 * one, 32 * one) == pytest.approx(3 * bank * coverage(32 * one, 128, 8)[0])
    assert expert_bytes(load_model("qwen3-8b"), Parallel(), one, one) is None


def test_a_run_adds_its_expert_reads_up() -> None:
    """A prompt of 2,048 tokens with no other beside it reads the bank once, in 4 groups as in one step, and once per chunk of 512; each
    decode of one token reads 8 of 128 experts."""
    bank = 48 * 128 * 3 * 2048 * 768 * 2

    def per_request(**scheduler: object) -> float:
        spec = {
            "model": "qwen3-30b-a3b",
            "hardware": "h100-sxm-80gb",
            "engine": "vllm-v1",
            "cluster": {"instances": [{"parallel": {"tp": 2}, "max_model_len": 32768, "scheduler": scheduler}]},
            "workload": {
                "arrivals": {"kind": "constant", "rate_per_s": 0.1},
                "lengths": {"prompt": {"kind": "fixed", "tokens": 2048}, "output": {"kind": "fixed", "tokens": 11}},
                "count": 3,
            },
        }
        summary = simserve.run(spec).summary_dict()
        assert summary["experts"]["validated"] is False and "expert reads" in summary["unvalidated"]
        return float(summary["experts"]["bytes_read_per_request"])

    decodes = 10 / 16
    cover = coverage(np.array([512.0, 2048.0]), 128, 8)
    assert per_request(policy="layered") == pytest.approx(bank * (cover[1] + decodes), rel=1e-3)
    assert per_request(policy="vllm-v1", max_num_batched_tokens=4096) == pytest.approx(bank * (cover[1] + decodes), rel=1e-3)
    assert per_request(policy="vllm-v1", max_num_batched_tokens=512) == pytest.approx(bank * (4 * cover[0] + decodes), rel=1e-3)
