"""StepCost: exact where the engine needs it, physical everywhere, and fast."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.contracts import CostModel, Slice, Step
from simserve.cost.host import HostOverheads
from simserve.cost.step import StepCost
from simserve.errors import ConfigError, ModelError
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.layout import rank_weight_bytes
from simserve.model.parallel import Parallel

HOST = HostOverheads(per_step_s=1e-3, per_decode_request_s=5e-6, per_prefill_token_s=1e-8, cuda_graph_sizes=(1, 2, 4, *range(8, 257, 8)))
LLAMA = load_model("llama-2-7b")


def build(name: str, hardware: str, tp: int = 1, pp: int = 1, host: HostOverheads = HOST, **options: object) -> StepCost:
    return StepCost(load_model(name), load_profile(hardware), host, Parallel(tp=tp, pp=pp), **options)  # type: ignore[arg-type]


A100 = build("llama-2-7b", "a100-sxm-80gb")
EAGER = build("llama-2-7b", "a100-sxm-80gb", host=HostOverheads(kernel_launch_s=1e-4))
H100 = build("llama-3.1-8b", "h100-sxm-80gb")
CHECKED: CostModel = A100


@settings(max_examples=150, deadline=None)
@given(
    cost=st.sampled_from([A100, EAGER, H100]),
    n=st.integers(1, 300),
    mean=st.integers(1, 6000),
    extra=st.integers(0, 20_000),
    steps=st.integers(1, 700),
)
def test_a_span_is_bit_identical_to_its_steps(cost: StepCost, n: int, mean: int, extra: int, steps: int) -> None:
    total, longest = n * mean + extra, mean + extra
    assert list(cost.decode_times(Step(n, total, longest), steps)) == [
        cost.step_time(Step(n, total + i * n, longest + i)) for i in range(steps)
    ]


@pytest.mark.parametrize("cost", [A100, EAGER, H100])
def test_more_work_never_takes_less_time(cost: StepCost) -> None:
    by_tokens = [cost.step_time(Step(0, 0, 0, [Slice(m, 0)])) for m in range(1, 9000, 7)]
    by_context = [cost.step_time(Step(32, 32 * c, c)) for c in range(1, 9000, 37)]
    by_batch = [cost.step_time(Step(n, n * 700, 700)) for n in range(1, 600)]
    by_prefix = [cost.step_time(Step(0, 0, 0, [Slice(256, c)])) for c in range(0, 16000, 61)]
    by_chunks = [cost.step_time(Step(4, 4000, 1000, [Slice(100, 50)] * k)) for k in range(40)]
    for times in (by_tokens, by_context, by_batch, by_prefix, by_chunks):
        assert all(a <= b for a, b in pairwise(times))


def test_a_batch_is_never_faster_than_its_longest_sequence_alone() -> None:
    even = A100.step_time(Step(8, 8 * 500, 500))
    uneven = A100.step_time(Step(8, 8 * 500, 4000))
    assert uneven >= A100.breakdown(Step(1, 4000, 4000))["attention_decode"]
    assert uneven >= even


@pytest.mark.parametrize(("cost", "model", "tp"), [(A100, LLAMA, 1), (H100, load_model("llama-3.1-8b"), 1)])
def test_no_step_beats_the_roofline(cost: StepCost, model: object, tp: int) -> None:
    device = load_profile(cost.describe()["hardware"]).device
    for n in (1, 16, 200):
        for context in (10, 1000, 8000):
            kv = n * context * model.kv_bytes_per_token()  # type: ignore[attr-defined]
            weights = rank_weight_bytes(model, Parallel(tp=tp)) * 0.97  # type: ignore[arg-type]  # the embedding table is only looked up
            floor = (weights - LLAMA.vocab_size * LLAMA.hidden_size * 2 + max(kv - device.l2_bytes, 0)) / device.hbm_bytes_per_s
            assert cost.step_time(Step(n, n * context, context)) > floor
    for new in (512, 4096, 8192):
        useful = cost.flops(new, new * (new + 1) / 2)
        assert useful / cost.step_time(Step(0, 0, 0, [Slice(new, 0)])) < cost.peak_flops_per_s


def test_throughput_saturates() -> None:
    per_token = [A100.step_time(Step(0, 0, 0, [Slice(m, 0)])) / m for m in (64, 256, 1024, 4096)]
    assert per_token[0] > 1.5 * per_token[1] > 1.5 * per_token[2]
    assert per_token[3] == pytest.approx(per_token[2], rel=0.15)


def test_graphs_pad_decode_batches_and_nothing_else() -> None:
    assert A100.breakdown(Step(9, 9000, 1000))["gemm"] == A100.breakdown(Step(16, 16000, 1000))["gemm"]
    # 257 tokens are beyond the largest graph: no padding, one tile more
    assert A100.breakdown(Step(256, 256, 1))["gemm"] < A100.breakdown(Step(257, 257, 1))["gemm"]
    mixed = A100.breakdown(Step(3, 300, 100, [Slice(6, 0)]))["gemm"]
    assert mixed == A100.breakdown(Step(0, 0, 0, [Slice(9, 0)]))["gemm"]


def test_outside_graphs_the_host_launches_every_kernel() -> None:
    assert EAGER.breakdown(Step(1, 10, 10))["launch"] > 0
    assert EAGER.step_time(Step(1, 10, 10)) >= 32 * 8 * 1e-4
    assert "launch" not in EAGER.breakdown(Step(0, 0, 0, [Slice(8192, 0)]))


@pytest.mark.parametrize("cost", [A100, EAGER, H100, build("llama-3.1-70b", "h100-sxm-80gb", tp=4)])
def test_the_parts_add_up_to_the_step(cost: StepCost) -> None:
    steps = ((7, 7000, 1500, ()), (0, 0, 0, [Slice(700, 0)]), (5, 500, 100, [Slice(300, 900)] * 3))
    for n, total, longest, prefills in steps:
        parts = cost.breakdown(Step(n, total, longest, prefills))
        assert sum(parts.values()) == pytest.approx(cost.step_time(Step(n, total, longest, prefills)), rel=1e-9)
        assert all(seconds > 0 for seconds in parts.values())


def test_tensor_parallel_divides_the_matrices_and_adds_communication() -> None:
    one, four = (build("llama-2-13b", "a100-sxm-80gb", tp=tp).breakdown(Step(0, 0, 0, [Slice(2048, 0)])) for tp in (1, 4))
    assert one["gemm"] / 4 < four["gemm"] < one["gemm"] / 2.5
    assert "collective" not in one
    # 2 all-reduces a layer, each moves at least its buffer over a 300 GB/s link
    assert four["collective"] > 80 * 2048 * 5120 * 2 / 300e9


def test_pipeline_stages_share_the_layers_and_pass_activations_on() -> None:
    whole, staged = build("llama-2-7b", "a100-sxm-80gb"), build("llama-2-7b", "a100-sxm-80gb", pp=2)
    times = staged.stage_times(Step(8, 8000, 1000))
    assert staged.stages == len(times) == 2
    assert sum(times) > whole.step_time(Step(8, 8000, 1000))
    assert max(times) < 0.65 * whole.step_time(Step(8, 8000, 1000))
    with pytest.raises(ModelError, match="stage_times"):
        staged.step_time(Step(8, 8000, 1000))


def test_swapping_moves_the_kv_cache_over_the_host_link() -> None:
    kv = 1000 * LLAMA.kv_bytes_per_token()
    assert kv / 32e9 < A100.swap_time(1000) < 2 * kv / 32e9
    assert A100.swap_time(0) > 0


def test_useful_flops_are_two_per_weight_and_token() -> None:
    head = LLAMA.vocab_size * LLAMA.hidden_size
    assert A100.logits_flops(3) == 2 * 3 * head
    assert A100.flops(1, 0) == pytest.approx(2 * (LLAMA.parameters() - 2 * head), rel=1e-3)
    assert A100.flops(0, 1) == 4 * 32 * 128 * 32


def test_the_description_is_plain_json_and_names_errors() -> None:
    text = json.loads(json.dumps(A100.describe()))
    gemm = next(o for o in text["operators"] if o["operator"] == "gemm")
    assert gemm["check_mape_percent"]["points"] > 0 and "vllm" in gemm["backend"]
    estimated = build("llama-2-7b", "a100-sxm-80gb", analytic=True).describe()
    assert not estimated["operators"] and any("gemm" in name for name in estimated["unvalidated"])


def test_mixtures_of_experts_and_latent_attention_have_costs() -> None:
    moe = build("mixtral-8x7b", "h100-sxm-80gb", tp=2).breakdown(Step(16, 16000, 1000))
    assert moe["moe"] > moe["attention_decode"]
    latent = StepCost(load_model("deepseek-v3"), load_profile("h100-sxm-80gb"), HOST, Parallel(tp=8, ep=8))
    few, many = (latent.step_time(Step(n, n * 1000, 1000)) for n in (1, 64))
    assert few < many < 30 * few


def test_answers_do_not_depend_on_what_was_asked_before() -> None:
    fresh, used = build("llama-2-7b", "a100-sxm-80gb"), build("llama-2-7b", "a100-sxm-80gb")
    used.step_time(Step(0, 0, 0, [Slice(70_000, 0)]))
    for tokens in (100, 8192, 8193, 20_000, 40_000):
        assert fresh.step_time(Step(0, 0, 0, [Slice(tokens, 0)])) == used.step_time(Step(0, 0, 0, [Slice(tokens, 0)]))


def test_host_overheads_are_checked() -> None:
    with pytest.raises(ConfigError, match="per_step_s"):
        HostOverheads(per_step_s=-1.0)
    with pytest.raises(ConfigError, match="ascending"):
        HostOverheads(cuda_graph_sizes=(4, 2))


def test_a_step_costs_microseconds_to_compute() -> None:
    """Best of several, with room for a busy machine: the contract is 4 us a mixed step and 0.35 us a step of a span."""
    prefills = [Slice(400, 1000), Slice(100, 0)]
    A100.step_time(Step(64, 64_000, 3000, prefills))

    def best(work: object, repeat: int) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(repeat):
                work()  # type: ignore[operator]
            times.append((time.perf_counter() - start) / repeat)
        return min(times)

    assert best(lambda: A100.step_time(Step(64, 64_000, 3000, prefills)), 300) < 20e-6
    assert best(lambda: A100.decode_times(Step(64, 64_000, 3000), 500), 5) < 500 * 1.0e-6


def test_importing_is_light() -> None:
    code = (
        "import sys, simserve.cost.step, simserve.cost.memory, simserve.hardware\n"
        "heavy = {'pandas', 'scipy', 'matplotlib', 'pyarrow', 'lightgbm', 'sklearn', 'torch', 'simpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_derived_class_keeps_is_in_its_twins() -> None:
    """Also where StepCost is compiled and the class derived from it is not."""

    class Counted(StepCost):
        def _build(self) -> None:
            super()._build()
            self.steps_asked = [0]

        def step_time(self, step: Step) -> float:
            self.steps_asked[0] += 1
            return super().step_time(step)

    cost = Counted(LLAMA, load_profile("a100-sxm-80gb"), HOST)
    other = cost.with_host(HostOverheads())
    assert isinstance(other, Counted)
    assert 0.0 < other.step_time(Step(2, 200, 100)) < cost.step_time(Step(2, 200, 100))
    assert cost.steps_asked == [2] and other.steps_asked is cost.steps_asked
