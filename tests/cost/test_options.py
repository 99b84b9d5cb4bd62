"""What papers change in a step's cost: their own arithmetic comes out, nothing beats the hardware, and defaults change nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.config.assemble import assemble
from simserve.config.experiment import load
from simserve.contracts import Slice, Step
from simserve.cost.host import HostOverheads
from simserve.cost.memory import kv_capacity
from simserve.cost.options import CostOptions
from simserve.cost.step import StepCost
from simserve.errors import ConfigError, ModelError
from simserve.hardware import load_profile
from simserve.model import load_model
from simserve.model.layout import rank_weight_bytes
from simserve.model.parallel import Parallel

A100 = load_profile("a100-sxm-80gb")
HOST = HostOverheads(per_step_s=1e-3, cuda_graph_sizes=(1, 2, 4, *range(8, 257, 8)))
LSERVE = {
    "streaming_head_fraction": 0.5,
    "attention_budget_tokens": 4096,
    "selector_stride_tokens": 64,
    "kv_bits": 4.25,
}


def build(name: str, quantisation: str | None = None, tp: int = 1, context: int = 16384, **options: object) -> StepCost:
    model = load_model(name, quantisation=quantisation)
    chosen = CostOptions.model_validate(options)
    return StepCost(model, A100, HOST, Parallel(tp=tp), max_context_tokens=context, options=chosen)


PLAIN = build("llama-3.1-8b")
SWIFT = build("llama-3.1-8b", prefill_layer_fraction=0.5, kv_layers_per_cache=2)
SPARSE = build("llama-3.1-8b", "w4a8_int4", **LSERVE)
XQUANT = build("llama-2-7b", kv_representation="layer-input", kv_bits=4.16)
SCALAR = build("llama-3.1-8b", kv_bits=4.25, attention_scalar_fraction=0.2)


def test_default_options_change_nothing() -> None:
    without = StepCost(load_model("llama-3.1-8b"), A100, HOST, max_context_tokens=16384)
    for step in ((8, 8 * 900, 900, ()), (3, 4000, 2000, [Slice(300, 0), Slice(50, 700)])):
        assert PLAIN.step_time(Step(*step)) == without.step_time(Step(*step))
    assert PLAIN.describe() == without.describe()


@settings(max_examples=60, deadline=None)
@given(
    cost=st.sampled_from([SWIFT, SPARSE, XQUANT, SCALAR]),
    n=st.integers(1, 300),
    mean=st.integers(1, 6000),
    extra=st.integers(0, 9000),
    steps=st.integers(1, 300),
)
def test_a_span_is_bit_identical_to_its_steps(cost: StepCost, n: int, mean: int, extra: int, steps: int) -> None:
    total, longest = n * mean + extra, mean + extra
    assert list(cost.decode_times(Step(n, total, longest), steps)) == [
        cost.step_time(Step(n, total + i * n, longest + i)) for i in range(steps)
    ]


@pytest.mark.parametrize("cost", [SWIFT, SPARSE, XQUANT, SCALAR])
def test_more_work_never_takes_less_time_and_parts_add_up(cost: StepCost) -> None:
    by_tokens = [cost.step_time(Step(0, 0, 0, [Slice(m, 0)])) for m in range(1, 9000, 61)]
    by_context = [cost.step_time(Step(32, 32 * c, c)) for c in range(1, 9000, 61)]
    by_batch = [cost.step_time(Step(n, n * 700, 700)) for n in range(1, 300)]
    by_prefix = [cost.step_time(Step(0, 0, 0, [Slice(256, c)])) for c in range(0, 16000, 97)]
    for times in (by_tokens, by_context, by_batch, by_prefix):
        assert all(a <= b for a, b in pairwise(times))
    for step in ((16, 16 * 900, 900, ()), (3, 4000, 2000, [Slice(300, 0), Slice(50, 700)])):
        assert sum(cost.breakdown(Step(*step)).values()) == pytest.approx(cost.step_time(Step(*step)))


@pytest.mark.parametrize(
    ("options", "fraction"),
    [
        ({"kv_bits": 4}, 0.25),
        ({"prefill_layer_fraction": 0.5, "kv_layers_per_cache": 4}, 1 - 0.375),  # SwiftKV's published reductions
        ({"prefill_layer_fraction": 0.5, "kv_layers_per_cache": 2}, 1 - 0.25),
        ({"prefill_layer_fraction": 0.5, "kv_layers_per_cache": 2, "kv_bits": 8}, 1 - 0.625),
    ],
)
def test_the_cache_shrinks_by_the_papers_arithmetic(options: dict[str, float], fraction: float) -> None:
    model = load_model("llama-3.1-70b")
    assert CostOptions.model_validate(options).cached_fraction(model) == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("model", "bits", "saving"), [("llama-2-7b", 4.16, 7.69), ("llama-2-7b", 2.56, 12.5), ("llama-3.1-8b", 2.08, 7.69)]
)
def test_a_cached_layer_input_is_half_of_keys_and_values_or_two_latents(model: str, bits: float, saving: float) -> None:
    options = CostOptions(kv_representation="layer-input", kv_bits=bits)
    assert 1 / options.cached_fraction(load_model(model)) == pytest.approx(saving, rel=0.001)


def test_fewer_bits_make_room_for_more_tokens() -> None:
    base = {
        "model": {"name": "llama-3.1-8b"},
        "hardware": "a100-sxm-80gb",
        "workload": {
            "arrivals": {"kind": "poisson", "rate_per_s": 1.0},
            "lengths": {"prompt": {"kind": "fixed", "tokens": 100}, "output": {"kind": "fixed", "tokens": 10}},
            "count": 2,
        },
    }
    (plain,) = assemble(load(base)).instances
    quarter = load(base, ["model.options={kv_bits: 4}"])
    (packed,) = assemble(quarter).instances
    assert packed.kv_blocks == pytest.approx(4 * plain.kv_blocks, rel=0.001)
    assert packed.cost.swap_time(10**6) == pytest.approx(plain.cost.swap_time(10**6) / 4, rel=0.01)
    assert load(quarter.resolved()).resolved() == quarter.resolved()


def test_prompts_that_skip_layers_cost_their_share_and_decodes_cost_what_they_did() -> None:
    prompt = (0, 0, 0, [Slice(8192, 0)])
    plain, swift = PLAIN.breakdown(Step(*prompt)), SWIFT.breakdown(Step(*prompt))
    # Of a layer of Llama-3.1-8B, keys and values of 2 layers that share a cache are 1/2 x 8.4 of 218 million weights: 2 %.
    assert swift["gemm"] / plain["gemm"] == pytest.approx(0.5 + 0.5 * 0.019, rel=0.05)
    assert swift["attention_prefill"] == pytest.approx(plain["attention_prefill"] / 2)
    for n in (1, 64, 200):
        assert SWIFT.step_time(Step(n, n * 900, 900)) == pytest.approx(PLAIN.step_time(Step(n, n * 900, 900)), rel=0.01)


def test_a_budget_bounds_decode_attention_and_streaming_heads_halve_prefill() -> None:
    dense, sparse = build("llama-3.1-8b", context=262144), build("llama-3.1-8b", context=262144, **LSERVE)

    def attention(cost: StepCost, context: int) -> float:
        return cost.breakdown(Step(1, context, context))["attention_decode"]

    growth = attention(sparse, 262144) - attention(sparse, 16384)
    assert growth < 0.05 * (attention(dense, 262144) - attention(dense, 16384))
    assert attention(sparse, 262144) > attention(sparse, 16384)  # statistics of all pages are read to choose
    prompt = (0, 0, 0, [Slice(262144, 0)])
    ratio = sparse.breakdown(Step(*prompt))["attention_prefill"] / dense.breakdown(Step(*prompt))["attention_prefill"]
    assert 0.5 < ratio < 0.6


def test_scalar_cores_bound_attention_by_pairs_of_query_heads_and_keys() -> None:
    model = load_model("llama-3.1-8b")
    pairs = 256 * 1280 * model.num_attention_heads * model.num_layers
    floor = 4 * 128 * pairs / (0.2 * A100.device.peak_flops_per_s["fp32"])
    assert SCALAR.breakdown(Step(256, 256 * 1280, 1280))["attention_decode"] == pytest.approx(floor, rel=0.02)


def test_recomputed_keys_cost_their_flops() -> None:
    model, context = load_model("llama-2-7b"), 16000
    flops = 4 * model.hidden_size**2 * context * model.num_layers
    attention = XQUANT.breakdown(Step(1, context, context))["attention_decode"]
    assert flops / A100.device.peak("fp16") < attention < 1.3 * flops / A100.device.peak("fp16")


def test_four_bit_matrices_keep_to_the_peaks_and_mix_by_fraction() -> None:
    prompt = (0, 0, 0, [Slice(8192, 0)])
    seconds = {}
    for name, quantisation, fraction in (
        ("a16", "none", 0.0),
        ("a8", "w4a8_int4", 0.0),
        ("a4", "w4a4_int4", 0.0),
        ("mix", "w4a4_int4", 0.16),
    ):
        cost = build("llama-3.1-8b", quantisation, a8_fraction=fraction)
        seconds[name] = cost.breakdown(Step(*prompt))["gemm"]
    flops = 2 * 8192 * 32 * 218e6
    assert seconds["a8"] >= flops / A100.device.peak_flops_per_s["int8"]
    assert seconds["a4"] >= flops / A100.device.peak_flops_per_s["int4"]
    assert seconds["a4"] < seconds["mix"] < seconds["a8"] < seconds["a16"]
    assert seconds["mix"] == pytest.approx(0.84 * seconds["a4"] + 0.16 * seconds["a8"], rel=0.01)


def test_a_decode_step_reads_weights_and_cache_once() -> None:
    model = load_model("llama-3.1-8b", quantisation="w4a8_int4")
    cost = build("llama-3.1-8b", "w4a8_int4", kv_bits=4.25)
    for n, context in ((1, 16000), (32, 4000), (256, 1200)):
        cache = n * context * model.kv_bytes_per_token(2 * 4.25 / 16)
        weights = rank_weight_bytes(model, Parallel()) - model.vocab_size * model.hidden_size * 2  # the embedding is looked up
        assert cost.step_time(Step(n, n * context, context)) >= (cache + weights - 5e8) / A100.device.hbm_bytes_per_s


def test_what_was_not_measured_is_said() -> None:
    about = SPARSE.describe()
    assert about["options"] == LSERVE
    assert [line for line in about["unvalidated"] if line.startswith("attention_decode under the model's options")]
    assert [line for line in about["unvalidated"] if "w4a8_int4" in line]


def test_weights_of_four_bits_fit_where_sixteen_do_not() -> None:
    with pytest.raises(ModelError, match="does not fit"):
        kv_capacity(load_model("llama-2-70b"), A100, Parallel())
    assert kv_capacity(load_model("llama-2-70b", quantisation="w4a8_int4"), A100, Parallel()).tokens > 0


@pytest.mark.parametrize(
    ("model", "tp", "options", "words"),
    [
        ("deepseek-v2-lite", 1, {"kv_bits": 4}, "latent attention"),
        ("llama-2-7b", 2, {"kv_representation": "layer-input"}, "tp 1 only, found tp 2"),
    ],
)
def test_options_that_a_model_cannot_take(model: str, tp: int, options: dict[str, object], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        build(model, tp=tp, **options)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("{kv_bit: 4}", "did you mean 'kv_bits'"),
        ("{kv_bits: 0}", "expected a number >= 0.01"),
        ("{kv_layers_per_cache: 2}", "set prefill_layer_fraction below 1"),
        ("{selector_stride_tokens: 64}", "needs attention_budget_tokens"),
        ("{kv_representation: x}", "layer-input"),
    ],
)
def test_mistakes_are_named(change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load("quickstart", [f"model={{name: llama-2-7b, options: {change}}}"])
