"""Steps of models whose layers differ: by weight format, by mixer, by width."""

import pytest

from simserve.contracts import Slice, Step
from simserve.cost.step import StepCost
from simserve.errors import ModelError
from simserve.hardware.profile import load_profile
from simserve.model import Parallel, from_config, load_model
from tests.model.recent_configs import CONFIGS

LLAMA = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
LLAMA |= {"intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192}


def cost(model, **options):
    return StepCost(model, load_profile("h100-sxm-80gb"), max_context_tokens=4096, **options)


def llama(kept):
    quantisation = {"quant_method": "fp8", "modules_to_not_convert": ["lm_head", *kept]}
    return from_config({**LLAMA, "quantization_config": quantisation}, name="llama8b")


@pytest.mark.parametrize(("decodes", "prefills"), [(1, ()), (64, ()), (8, (Slice(1024, 0),))])
def test_a_step_costs_what_its_layers_cost(decodes, prefills):
    """Eight of 32 MLPs unquantised: the multiplications take a quarter of the way from none to all of them unquantised (but for what the
    levelling of tables over token counts does)."""
    some = [f"model.layers.{i}.mlp" for i in (*range(4), *range(28, 32))]
    gemm = {
        name: cost(llama(kept)).breakdown(Step(decodes, decodes * 1000, 1000, prefills))["gemm"]
        for name, kept in (("none", []), ("some", some), ("all", ["mlp"]))
    }
    assert gemm["none"] != gemm["all"]
    assert gemm["some"] == pytest.approx(gemm["none"] + (gemm["all"] - gemm["none"]) / 4, rel=2e-3)


def test_a_quantised_head_is_read_as_it_is_stored():
    whole = from_config({**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}, name="m")
    head = from_config({**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "lm_head": True}}, name="m")
    times = [cost(model).breakdown(Step(1, 1000, 1000))["lm_head"] for model in (whole, head)]
    assert times[1] < 0.6 * times[0]


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in ("step3", "ernie-4.5-300b", "command-a")])
def test_every_recent_model_has_a_step_time(name):
    """Nothing is faster than reading the weights that one token meets, at the device's full bandwidth."""
    model = from_config(CONFIGS[name], name=name)
    steps = cost(model)
    one = steps.step_time(Step(1, 1000, 1000))
    read_s = 2 * (model.active_parameters() - model.parameter_parts()["embedding"]) / load_profile("h100-sxm-80gb").device.hbm_bytes_per_s
    assert 0.9 * read_s < one < 0.2
    assert steps.step_time(Step(0, 0, 0, (Slice(2048, 0),))) > one


def test_recurrent_layers_are_estimates_and_read_their_state():
    model = from_config(CONFIGS["granite-4.0-h-small"], name="granite")
    steps = cost(model)
    part = steps.breakdown(Step(64, 64_000, 1000))["linear_attention"]
    read_and_written_s = 2 * 64 * model.recurrent_state_bytes() / load_profile("h100-sxm-80gb").device.hbm_bytes_per_s
    assert part > read_and_written_s
    assert any("linear_attention" in name for name in steps.describe()["unvalidated"])
    assert steps.breakdown(Step(64, 640_000, 10_000))["linear_attention"] == part  # whatever the context


def test_experts_without_gate_cost_less():
    config = CONFIGS["nemotron-3-nano-30b"]
    steps = cost(from_config(config, name="nano"))
    gated = cost(from_config({**config, "moe_intermediate_size": 1856 * 3 // 2}, name="wider"))
    assert steps.breakdown(Step(512, 512, 1))["moe"] < gated.breakdown(Step(512, 512, 1))["moe"]
    assert any("without gate" in name for name in steps.describe()["unvalidated"])


def test_what_was_assumed_of_a_model_is_in_the_result():
    plain = from_config({**LLAMA, "model_type": "newcomer"}, name="newcomer")
    said = cost(plain).describe()["unvalidated"]
    assert any("newcomer" in text and "plain decoder" in text for text in said)
    same = cost(from_config(LLAMA, name="newcomer"))
    assert cost(plain).step_time(Step(8, 8000, 1000)) == same.step_time(Step(8, 8000, 1000))


@pytest.mark.parametrize(
    "method", ["w4a4_nvfp4", "w4a16_nvfp4", "w4a4_mxfp4", "w8a8_mxfp8", "w4a8_fp8", "w8a16_fp8", "w4a16_nf4", "llm_int8"]
)
def test_unmeasured_formats_are_estimates(method):
    """One token costs about the reading of the weights; every format of four bits is faster than sixteen."""
    steps = cost(load_model("llama-3.1-8b", quantisation=method))
    run_as = method.replace("w4a4_", "w4a16_")  # without units for 4-bit floats the weights alone stay so
    assert any(one in name for name in steps.describe()["unvalidated"] for one in (method, run_as))
    assert steps.step_time(Step(1, 1000, 1000)) < cost(load_model("llama-3.1-8b")).step_time(Step(1, 1000, 1000))


def test_layers_without_attention_cannot_skip_prompts():
    from simserve.cost.options import CostOptions

    with pytest.raises(ModelError, match="cannot be skipped in prefill"):
        cost(from_config(CONFIGS["nemotron-h-8b"], name="nemotron"), options=CostOptions(prefill_layer_fraction=0.5))


def test_pipeline_stages_of_unlike_layers():
    model = from_config(CONFIGS["nemotron-h-8b"], name="nemotron")
    whole = cost(model).breakdown(Step(8, 8000, 1000))
    staged = cost(model, parallel=Parallel(pp=4)).breakdown(Step(8, 8000, 1000))
    assert staged["gemm"] == pytest.approx(whole["gemm"], rel=1e-6)
    assert staged["linear_attention"] == pytest.approx(whole["linear_attention"], rel=1e-6)
