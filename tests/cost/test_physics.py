"""Step times obey physics on every bundled device, for dense, quantised, expert and latent-attention models.

The bounds here are worked out again from published numbers (weights, heads, peaks), not taken from the operators' own bounds.
A device whose memory does not hold a model is skipped by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import simserve
from simserve import resources
from simserve.contracts import Slice, Step
from simserve.cost.experts import coverage
from simserve.cost.host import HostOverheads
from simserve.cost.memory import kv_capacity
from simserve.cost.step import StepCost
from simserve.errors import ModelError
from simserve.hardware import load_profile
from simserve.hardware.profile import HardwareProfile
from simserve.model import load_model
from simserve.model.architecture import ModelArchitecture
from simserve.model.layout import stage_weight_bytes
from simserve.model.parallel import Parallel

GRAPHS = HostOverheads(cuda_graph_sizes=(1, 2, 4, *range(8, 257, 8)))
NO_LAUNCHES = HostOverheads(kernel_launch_s=0.0)
HARDWARE = resources.available("hardware_profiles")
LAYOUTS = {
    "llama-3.1-8b": (Parallel(), Parallel(tp=2), Parallel(tp=4), Parallel(tp=8)),
    "llama-3.1-70b": (Parallel(tp=2), Parallel(tp=4), Parallel(tp=8)),
    "qwen3-32b-fp8": (Parallel(), Parallel(tp=2), Parallel(tp=4), Parallel(tp=8)),
    "mixtral-8x7b": (Parallel(tp=2), Parallel(tp=4), Parallel(tp=8), Parallel(tp=8, ep=8)),
    "qwen3-30b-a3b": (Parallel(), Parallel(tp=2), Parallel(tp=4), Parallel(tp=4, ep=4)),
    "deepseek-v3": (
        Parallel(tp=8, ep=8),
        Parallel(tp=8, pp=2, ep=8),
        Parallel(tp=16, ep=16),
        Parallel(dp=16, ep=16),
        Parallel(dp=32, ep=32),
    ),
}
EXPERTS = [name for name in LAYOUTS if name not in ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b-fp8")]
FIT_ERROR = 1.06
"""Neighbouring layouts are predicted independently, each a few per cent off (docs/cost-models.md): comparisons of two may miss by this."""

UNTUNED = {"a100-sxm-80gb": 2.4, **dict.fromkeys(("b200-sxm", "gb200", "b300-sxm", "gb300"), 2.8)}
"""vLLM's and SGLang's Triton experts are untuned on A100 for wide experts: measured, 8 experts of 6144 x 16384 take 53 ms over 8,192 tokens
at tp 2 and 14 ms at tp 4 (aiconfigurator's tables); the same happens to Mixtral-8x7B. FlashInfer's bf16 experts on B200 are like them: 8 of
4096 x 14336 take 2.09 ms over 4,096 tokens at tp 2 and 0.71 ms at tp 4."""

WARM = {"l40s": 2.4, "rtx-pro-6000-server": 2.4}
"""Where the L2 cache holds 96 MB and more, matrices below 20 MB were timed in it; a step takes them as read at the whole bandwidth, of
which larger ones reach 0.83."""

SLOW_LINKS = ("l40s",)
"""Collectives measured on a server without peer access: all-reduce of 32 MB on eight takes 31 ms, and prompts are communication."""

Prefills = Sequence[Slice]


@cache
def profile_of(hardware: str) -> HardwareProfile:
    return load_profile(hardware)


@cache
def cost_of(hardware: str, model: str, parallel: Parallel, host: HostOverheads = GRAPHS, quantisation: str | None = None) -> StepCost:
    architecture = load_model(model, quantisation=quantisation)
    return StepCost(architecture, profile_of(hardware), host, parallel, backend="vllm", max_context_tokens=32768)


def fitting(hardware: str, model: str) -> list[Parallel]:
    """The layouts whose weights fit; the test is skipped by name where none does."""
    out, reason = [], ""
    for parallel in LAYOUTS[model]:
        try:
            kv_capacity(load_model(model), profile_of(hardware), parallel)
            out.append(parallel)
        except ModelError as error:
            reason = str(error)
    if not out:
        pytest.skip(reason)
    return out


def seconds(cost: StepCost, n: int, mean: int, prefills: Prefills = ()) -> float:
    """A step of `n` sequences of `mean` tokens and some chunks, through all stages."""
    return sum(cost.stage_times(Step(n, n * mean, mean if n else 0, prefills)))


def layout_name(p: Parallel) -> str:
    return f"tp{p.tp} pp{p.pp} dp{p.dp} ep{p.ep}"


def expected_experts(model: ModelArchitecture, tokens: int) -> float:
    """Different experts that `tokens` tokens choose at least: they prefer some (arXiv 2510.08055: 37 % of 128 by 16 tokens, not 64)."""
    experts = model.experts
    assert experts is not None
    return experts.num_experts * float(coverage(np.array([float(tokens)]), experts.num_experts, experts.experts_per_token)[0])


def expert_bytes(model: ModelArchitecture) -> float:
    """Bytes of one routed expert of one layer."""
    experts = model.experts
    assert experts is not None
    element = {"none": 2.0, "fp8_block128": 1.0, "fp8": 1.0}[model.quantisation.experts]
    return 3.0 * model.hidden_size * experts.intermediate_size * element


def roofline_s(model: ModelArchitecture, hardware: HardwareProfile, p: Parallel, n: int, mean: int, prefills: Prefills) -> float:
    """Seconds no instance can beat: the weights that the step's tokens need and the KV they attend, read once by all devices together;
    and their multiplications at the peaks of their types. Reading is spared at most one L2 cache a device."""
    device, devices = hardware.device, p.tp * p.dp
    new = n + sum(piece.new_tokens for piece in prefills)
    # A token crosses every stage, so weights count over all stages, on one stage's devices at a time. The embedding is a lookup.
    weights = float(sum(stage_weight_bytes(model, p))) * devices - 2.0 * model.vocab_size * model.hidden_size * p.dp
    if model.experts is not None:
        layers = sum(model.moe_layers)
        weights -= layers * expert_bytes(model) * (model.experts.num_experts - expected_experts(model, new))
    kv = n * mean * model.kv_bytes_per_token()
    memory = (weights + kv) / (devices * device.hbm_bytes_per_s) - device.l2_bytes / device.hbm_bytes_per_s
    method = model.quantisation.experts if any(model.moe_layers) else model.quantisation.mlp
    fastest = device.peak(model.dtype if method == "none" else method)
    pairs = n * mean + sum(p.new_tokens * p.context_tokens + p.new_tokens * (p.new_tokens + 1) / 2 for p in prefills)
    compute = new * model.flops_per_token(logits=False) / fastest + pairs * model.attention_flops_per_pair() / device.peak(model.dtype)
    return max(memory, compute / devices)


STEPS = [(1, 500, ()), (16, 4000, ()), (128, 1000, ()), (0, 0, (2048,)), (0, 0, (8192,)), (64, 1000, (512,)), (8, 500, (100, 300))]


@pytest.mark.parametrize("model", LAYOUTS)
@pytest.mark.parametrize("hardware", HARDWARE)
def test_no_step_beats_the_roofline(hardware: str, model: str) -> None:
    architecture = load_model(model)
    for parallel in fitting(hardware, model):
        cost = cost_of(hardware, model, parallel)
        for n, mean, chunks in STEPS:
            prefills = [Slice(c, 0) for c in chunks]
            least = roofline_s(architecture, profile_of(hardware), parallel, n, mean, prefills)
            took = seconds(cost, n, mean, prefills)
            assert took > least, f"{layout_name(parallel)}, {n} x {mean} + {chunks}: {1e3 * took:.3f} ms, roofline {1e3 * least:.3f} ms"


@pytest.mark.parametrize("model", LAYOUTS)
@pytest.mark.parametrize("hardware", HARDWARE)
def test_more_work_never_takes_less_time(hardware: str, model: str) -> None:
    for parallel in fitting(hardware, model):
        cost = cost_of(hardware, model, parallel)
        sweeps = {
            "batch": [seconds(cost, n, 1000) for n in range(1, 300, 7)],
            "context": [seconds(cost, 32, c) for c in range(1, 30_000, 997)],
            "prompt": [seconds(cost, 0, 0, [Slice(m, 0)]) for m in range(1, 12_000, 331)],
            "prefix": [seconds(cost, 0, 0, [Slice(256, c)]) for c in range(0, 30_000, 997)],
            "chunks": [seconds(cost, 8, 800, [Slice(200, 100)] * k) for k in range(1, 12)],
            "decodes beside a chunk": [seconds(cost, n, 800, [Slice(300, 0)]) for n in range(0, 200, 9)],
        }
        for what, times in sweeps.items():
            assert all(a <= b * (1 + 1e-12) for a, b in pairwise(times)), f"{layout_name(parallel)}: {what}"


@pytest.mark.parametrize("model", LAYOUTS)
@pytest.mark.parametrize("hardware", HARDWARE)
def test_throughput_saturates(hardware: str, model: str) -> None:
    """Prompt tokens a second level off with the size of the prompt. Decoded tokens a second rise with the batch, by less and less, and stay
    below what reading the batch's KV cache allows."""
    architecture = load_model(model)
    for parallel in fitting(hardware, model):
        cost = cost_of(hardware, model, parallel)
        name = layout_name(parallel)
        rate = {m: m / seconds(cost, 0, 0, [Slice(m, 0)]) for m in (16, 4096, 8192)}
        assert rate[16] < 0.5 * rate[4096] or (hardware in SLOW_LINKS and parallel.tp > 4), name
        # One prompt's attention is quadratic, and under data parallelism one replica's business.
        assert 0.5 * rate[4096] < rate[8192] < 1.35 * rate[4096], name
        decode = [n / seconds(cost, n, 1000) for n in (1, 4, 16, 64, 256, 1024, 4096)]
        gains = [b / a for a, b in pairwise(decode)]
        # Past saturation the largest measured matrices are a little less efficient than smaller ones.
        least = 0.7 if hardware in SLOW_LINKS else 0.85
        assert all(least < gain < 4.0 * FIT_ERROR for gain in gains), f"{name}: {gains}"
        assert gains[-1] < 2.5, f"{name}: {gains}"
        kv_rate = parallel.tp * parallel.dp * profile_of(hardware).device.hbm_bytes_per_s / (1000 * architecture.kv_bytes_per_token())
        assert decode[-1] < kv_rate, name


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.1-70b", "qwen3-32b-fp8", "mixtral-8x7b"])
@pytest.mark.parametrize("hardware", HARDWARE)
def test_more_devices_help_as_far_as_communication_lets_them(hardware: str, model: str) -> None:
    layouts = [p for p in fitting(hardware, model) if p.ep == 1]
    if len(layouts) < 2:
        pytest.skip(f"{hardware} runs {model} at one tp only")
    for n, mean, chunks in ((1, 1000, ()), (64, 1000, ()), (0, 0, (4096,)), (32, 500, (480,))):
        prefills = [Slice(c, 0) for c in chunks]
        parts = [cost_of(hardware, model, p).breakdown(Step(n, n * mean, mean if n else 0, prefills)) for p in layouts]
        whole = [sum(part.values()) for part in parts]
        # What waits for the links or the host's launches is not the devices' work.
        own = [total - part.get("collective", 0.0) - part.get("launch", 0.0) for total, part in zip(whole, parts, strict=True)]
        for few, many, p in zip(own, own[1:], layouts[1:], strict=False):
            case = f"tp {p.tp}, {n} x {mean} + {chunks}: {1e3 * few:.2f} -> {1e3 * many:.2f} ms"
            assert many < few, f"slower without communication: {case}"
            most = max(WARM.get(hardware, 2.0), UNTUNED.get(hardware, 2.0) if model in EXPERTS else 2.0)
            assert most * many * FIT_ERROR > few, f"more than linear: {case}"


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.1-70b"])
@pytest.mark.parametrize("hardware", HARDWARE)
def test_fp8_is_not_slower_than_bf16_where_compute_decides(hardware: str, model: str) -> None:
    if "fp8" not in profile_of(hardware).device.peak_flops_per_s:
        pytest.skip(f"{hardware} has no fp8 units")
    for parallel in fitting(hardware, model)[:2]:
        prompt = [Slice(8192, 0)]
        bf16, fp8 = (seconds(cost_of(hardware, model, parallel, GRAPHS, q), 0, 0, prompt) for q in ("none", "fp8"))
        assert fp8 < bf16, f"{layout_name(parallel)}: {1e3 * fp8:.1f} against {1e3 * bf16:.1f} ms"
        assert fp8 > 0.45 * bf16, "twice the peak, and attention stays as it was"


@pytest.mark.parametrize("model", EXPERTS)
@pytest.mark.parametrize("hardware", HARDWARE)
def test_expert_time_follows_the_experts_that_are_hit(hardware: str, model: str) -> None:
    """A step reads at least the experts its tokens choose and at most all of them; the time of a large step is that of its rows."""
    architecture, device = load_model(model), profile_of(hardware).device
    experts = architecture.experts
    assert experts is not None
    layers = sum(architecture.moe_layers)
    for parallel in fitting(hardware, model):
        cost, ranks = cost_of(hardware, model, parallel), parallel.tp * parallel.dp
        took = {t: cost.breakdown(Step(t, t * 10, 10))["moe"] for t in (1, 2, 4, 16, 64, 256)}
        for tokens, moe_s in took.items():
            padded = GRAPHS.graph_size(tokens) or tokens
            read = layers * expert_bytes(architecture) * expected_experts(architecture, padded) / ranks
            # Tables of kernels are made with one rank's even share; few tokens can be lucky.
            assert moe_s > 0.97 * (read / device.hbm_bytes_per_s - layers * device.l2_bytes / device.hbm_bytes_per_s), tokens
        everything = layers * expert_bytes(architecture) * experts.num_experts / ranks / device.hbm_bytes_per_s
        if parallel.ep == 1:  # with expert parallelism the rank that decides may hold little more than what one token chooses
            assert took[1] < 0.8 * took[64] or took[1] < layers * 60e-6, "one token does not touch all experts"
        assert took[64] < 3.0 * everything + layers * 300e-6, f"{layout_name(parallel)}: all experts read once, or nearly"
        large = cost.breakdown(Step(0, 0, 0, [Slice(8192, 0)]))["moe"]
        assert large < cost.breakdown(Step(0, 0, 0, [Slice(16384, 0)]))["moe"] < 2.6 * large


@pytest.mark.parametrize("model", LAYOUTS)
@pytest.mark.parametrize("hardware", HARDWARE)
def test_graphs_pad_a_batch_to_the_next_captured_one(hardware: str, model: str) -> None:
    parallel = fitting(hardware, model)[-1]
    """Each attention replica launches a graph of its own: nothing is padded where each has a captured batch."""
    padded, exact = cost_of(hardware, model, parallel), cost_of(hardware, model, parallel).with_host(NO_LAUNCHES)
    for n in (1, 2, 3, 4, 5, 8, 9, 100, 255, 256):
        with_graph, without = (seconds(c, n, 300) for c in (padded, exact))
        if n % parallel.dp == 0 and n // parallel.dp in GRAPHS.cuda_graph_sizes:
            assert with_graph == without, n
        else:
            assert with_graph >= without, n
        launched = seconds(padded.with_host(HostOverheads(kernel_launch_s=1e-3)), n, 300)
        assert launched > with_graph, "a launch of a millisecond for each kernel decides the step"


@pytest.mark.parametrize(
    ("better", "worse", "what"),
    [
        ("a100-sxm-80gb", "a100-sxm-40gb", "decode"),
        ("h100-sxm-80gb", "a100-sxm-80gb", "both"),
        ("h200-sxm-141gb", "h100-sxm-80gb", "decode"),
        ("h200-sxm-141gb", "h100-sxm-80gb", "prefill"),
        ("h100-sxm-80gb", "h20", "prefill"),
        ("h20", "a100-sxm-80gb", "decode"),
        ("a40", "a10", "both"),
        ("l40s", "a40", "decode"),  # four measured without peer access, beside an estimate with it
        ("rtx-pro-6000", "l40s", "both"),
        ("b200-sxm", "h200-sxm-141gb", "both"),
        ("gb300", "h100-sxm-80gb", "both"),
        ("h100-pcie", "l40s", "both"),
        ("h100-sxm-80gb", "rtx-pro-6000", "both"),
    ],
)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-32b-fp8", "mixtral-8x7b"])
def test_a_better_device_is_faster(better: str, worse: str, what: str, model: str) -> None:
    """By published bandwidth and peak: more bandwidth decodes faster, more FLOP/s reads prompts faster."""
    good, bad = (cost_of(hardware, model, Parallel(tp=4)) for hardware in (better, worse))
    if what != "prefill":
        assert seconds(good, 32, 2000) < FIT_ERROR * seconds(bad, 32, 2000)
    if what != "decode":
        prompt = [Slice(4096, 0)]
        assert seconds(good, 0, 0, prompt) < FIT_ERROR * seconds(bad, 0, 0, prompt)


def run(model: str, hardware: str, parallel: Parallel, count: int = 12) -> dict[str, Any]:
    """The summary of a small workload on one instance."""
    layout = {axis: getattr(parallel, axis) for axis in ("tp", "pp", "dp", "ep")}
    experiment = {
        "model": model,
        "hardware": hardware,
        "engine": "vllm-v1",
        "cluster": {"instances": [{"parallel": layout, "max_model_len": 4096}]},
        "workload": {
            "arrivals": {"kind": "poisson", "rate_per_s": 2.0},
            "lengths": {"prompt": {"kind": "fixed", "tokens": 512}, "output": {"kind": "fixed", "tokens": 64}},
            "count": count,
        },
    }
    summary = simserve.run(experiment).summary_dict()
    assert summary["requests"]["completed"] == count
    return summary


def check_run(summary: dict[str, Any], hardware: str, model: str, parallel: Parallel) -> None:
    """First tokens take at least a prompt's multiplications, later ones at least the reading of the weights."""
    architecture, profile = load_model(model), profile_of(hardware)
    latency = summary["latency"]["all"]
    assert latency["ttft_s"]["p50"] > roofline_s(architecture, profile, parallel, 0, 0, [Slice(512, 0)])
    assert latency["tpot_s"]["p50"] > roofline_s(architecture, profile, parallel, 1, 512, ())
    assert latency["e2e_s"]["p50"] < 60.0
    assert 0.0 < summary["utilisation"]["compute_utilisation"] < 1.0


@pytest.mark.parametrize("hardware", HARDWARE)
def test_every_device_serves_a_small_model(hardware: str) -> None:
    check_run(run("llama-3.1-8b", hardware, Parallel()), hardware, "llama-3.1-8b", Parallel())


@pytest.mark.parametrize("model", [name for name in LAYOUTS if name != "llama-3.1-8b"])
@pytest.mark.parametrize("hardware", ["h100-sxm-80gb", "h200-sxm-141gb"])
def test_large_models_are_served_in_their_layouts(hardware: str, model: str) -> None:
    parallel = fitting(hardware, model)[-1]
    check_run(run(model, hardware, parallel), hardware, model, parallel)


@pytest.mark.nightly
@pytest.mark.parametrize("model", LAYOUTS)
@pytest.mark.parametrize("hardware", HARDWARE)
def test_every_model_is_served_in_every_layout(hardware: str, model: str) -> None:
    for parallel in fitting(hardware, model):
        check_run(run(model, hardware, parallel), hardware, model, parallel)
