"""Bundled models have the sizes their publishers state."""

import re

import pytest

from simserve.model import load_model, model_names

# Totals of the safetensors metadata that the publishers' pages on the Hugging Face hub show; text decoder, tied weights once.
CHECKPOINT_TOTALS = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "codellama-34b": 33_743_970_304,
    "yi-34b": 34_388_917_248,
    "mistral-7b": 7_241_732_096,
    "mistral-nemo": 12_247_782_400,
    "mistral-large": 122_610_069_504,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "qwen2-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-coder-480b-a35b": 480_154_875_392,
    "qwen-72b": 72_287_920_128,
    "deepseek-v2-lite": 15_706_484_224,
    "bloom-176b": 176_247_271_424,
    "bloom-7b1": 7_069_016_064,
    "gpt-j-6b": 6_050_882_784,
    "phi-2": 2_779_683_840,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "falcon-180b": 179_522_565_120,
    "codellama-7b": 6_738_546_688,
    "codellama-13b": 13_016_028_160,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "phi-3-mini": 3_821_079_552,
    "phi-3-medium": 13_960_238_080,
    "mistral-small-22b": 22_247_282_688,
    "mistral-small-24b": 23_572_403_200,
    "mistral-7b-v0.2": 7_241_732_096,
    "deepseek-r1-distill-qwen-1.5b": 1_777_088_000,
}

# Sizes as papers round them, in billions, and where they are stated.
STATED_BILLIONS = {
    "llama-7b": (6.7, 0.01),  # LLaMA, arXiv 2302.13971 table 2
    "llama-13b": (13.0, 0.01),
    "llama-30b": (32.5, 0.01),
    "llama-65b": (65.2, 0.01),
    "opt-66b": (66, 0.01),  # OPT, arXiv 2205.01068 table 1
    "opt-175b": (175, 0.01),
    "opt-13b": (13, 0.015),  # stated without decimals: 12.85 is the count
    "deepseek-v3": (671, 0.01),  # arXiv 2412.19437 §1
    "deepseek-r1": (671, 0.01),
    "deepseek-v2": (236, 0.01),  # arXiv 2405.04434 §1
    "kimi-k2": (1040, 0.015),  # arXiv 2507.20534 table 2: 1.04 trillion
    "glm-5": (744, 0.01),  # model card
    "glm-4.5": (355, 0.01),  # arXiv 2508.06471 table 1
    "glm-4.5-air": (106, 0.01),
    "qwen3-next-80b-a3b": (80, 0.01),  # model card
    "qwen3.5-27b": (27, 0.01),  # the name; text decoder
    "ling-flash-2.0": (103, 0.01),  # model card: 100 billion; checkpoint 103
    "gemma-3-12b": (11.77, 0.005),  # arXiv 2503.19786 table 1: 1,012 + 10,759 M
    "gemma-3-27b": (27.02, 0.005),  # 1,416 + 25,600 M
    "decilm-7b": (7.04, 0.015),  # model card; 1 % more with keys and values degrouped, as engines hold them
    "minimax-m2.5": (230, 0.01),  # model card
    "qwen3.5-397b-a17b": (397, 0.01),  # the name; text decoder
    "llama-4-maverick": (400, 0.01),  # model card
    "llama-4-scout": (109, 0.015),  # model card, which counts the vision tower too
    "internlm-20b": (20, 0.01),
}

# Parameters a token meets, in billions. gpt-oss counts the unembedding but not the embedding (arXiv 2508.10925 table 1).
ACTIVE_BILLIONS = {
    "mixtral-8x7b": (12.9, 0.01),  # arXiv 2401.04088 §2.1: 13B; 12.9 in the announcement
    "mixtral-8x22b": (39, 0.01),  # announcement
    "qwen3-235b-a22b": (22.2, 0.02),  # arXiv 2505.09388
    "deepseek-v3": (37, 0.02),  # arXiv 2412.19437 §1
    "deepseek-v2": (21, 0.02),  # arXiv 2405.04434 §1
    "kimi-k2": (32.6, 0.01),  # arXiv 2507.20534
    "llama-4-scout": (17, 0.02),
    "llama-4-maverick": (17, 0.02),
    "qwen3.5-397b-a17b": (17, 0.03),
    "ling-flash-2.0": (6.1, 0.01),  # model card; 4.8 without the embedding
}


@pytest.mark.parametrize("name", CHECKPOINT_TOTALS)
def test_parameters_equal_the_checkpoint(name):
    assert load_model(name).parameters() == CHECKPOINT_TOTALS[name]


@pytest.mark.parametrize("name", STATED_BILLIONS)
def test_parameters_are_as_stated(name):
    stated, tolerance = STATED_BILLIONS[name]
    assert load_model(name).parameters() / 1e9 == pytest.approx(stated, rel=tolerance)


@pytest.mark.parametrize("name", ACTIVE_BILLIONS)
def test_active_parameters_are_as_stated(name):
    stated, tolerance = ACTIVE_BILLIONS[name]
    assert load_model(name).active_parameters() / 1e9 == pytest.approx(stated, rel=tolerance)


@pytest.mark.parametrize(("name", "active"), [("gpt-oss-20b", 3.61), ("gpt-oss-120b", 5.13)])
def test_gpt_oss_active_parameters(name, active):
    model = load_model(name)
    assert (model.active_parameters() - model.parameter_parts()["embedding"]) / 1e9 == pytest.approx(active, abs=0.01)


def test_dense_models_use_all_parameters():
    model = load_model("llama-3.1-8b")
    assert model.active_parameters() == model.parameters()


def test_quantised_checkpoints_have_their_published_size():
    # gpt-oss, arXiv 2508.10925 table 1: checkpoints of 60.8 and 12.8 GiB.
    assert load_model("gpt-oss-120b").weight_bytes() / 2**30 == pytest.approx(60.8, rel=0.01)
    assert load_model("gpt-oss-20b").weight_bytes() / 2**30 == pytest.approx(12.8, rel=0.01)
    # Kimi-K2-Thinking / K2.5: int4 routed experts, a checkpoint of about 594 GB (model card).
    assert load_model("kimi-k2.5").weight_bytes() / 1e9 == pytest.approx(594, rel=0.01)


def test_weight_bytes_follow_the_format():
    half = load_model("llama-3.1-8b")
    assert half.weight_bytes() == 2 * half.parameters()
    kept = 2 * (half.parameter_parts()["embedding"] + half.parameter_parts()["lm_head"] + half.parameter_parts()["norms"])
    fp8 = load_model("llama-3.1-8b", quantisation="fp8")
    assert fp8.weight_bytes() - kept == (half.weight_bytes() - kept) // 2
    int4 = load_model("llama-3.1-8b", quantisation="w4a16_int4")
    assert int4.weight_bytes() - kept == pytest.approx((half.weight_bytes() - kept) / 4, rel=0.04)  # and a 2-byte scale for 128 weights
    assert int4.weight_bytes() - kept > (half.weight_bytes() - kept) / 4


def test_flops_are_two_per_weight_in_matrices():
    model = load_model("llama-2-7b")
    parts = model.parameter_parts()
    matrices = model.parameters() - parts["embedding"] - parts["norms"]
    assert model.flops_per_token() == 2 * matrices
    assert model.flops_per_token(logits=False) == 2 * (matrices - parts["lm_head"])
    # A pair costs 2 FLOPs for each element of query and value: 4 x 4096 a layer.
    assert model.attention_flops_per_pair() == 32 * 4 * 4096


def test_flops_of_experts_count_only_the_chosen():
    model = load_model("mixtral-8x7b")
    parts = model.parameter_parts()
    assert model.flops_per_token() == 2 * (model.active_parameters() - parts["embedding"] - parts["norms"])


def test_a_tied_head_still_costs_its_product():
    model = load_model("qwen3-0.6b")
    assert "lm_head" not in model.parameter_parts()
    assert model.flops_per_token() - model.flops_per_token(logits=False) == 2 * model.vocab_size * model.hidden_size


@pytest.mark.parametrize("name", model_names())
def test_the_name_states_the_size(name):
    """Every `13b`, `8x7b`, `235b-a22b` in a name is the size within rounding (7b means anything from 6.5 to 8.5, 2b up to 2.6)."""
    found = re.search(r"(?:^|-)(\d+(?:\.\d+)?)b", name)
    if found is None:
        return
    assert load_model(name).parameters() / 1e9 == pytest.approx(float(found[1]), rel=0.31)
