"""Layouts that no engine loads: blocks and groups that a cut would break (vllm-project/vllm issues 25292 and 52997, sglang 10852)."""

import pytest

from simserve.errors import ModelError
from simserve.model import Parallel, check, from_config, load_model

DENSE = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8}
DENSE |= {"vocab_size": 32000, "max_position_embeddings": 4096}


def dense(intermediate_size=14336, **quantisation):
    return from_config({**DENSE, "intermediate_size": intermediate_size, "quantization_config": quantisation}, name="dense")


@pytest.mark.parametrize(
    ("name", "parallel", "works"),
    [
        ("qwen3-30b-a3b-fp8", Parallel(2), True),  # 768 / 2 = 3 x 128
        ("qwen3-30b-a3b-fp8", Parallel(4), False),  # 192
        ("qwen3-30b-a3b-fp8", Parallel(8), False),
        ("qwen3-30b-a3b-fp8", Parallel(4, ep=4), True),  # experts whole
        ("qwen3-30b-a3b-fp8", Parallel(8, ep=4), True),  # cut in two
        ("qwen3-30b-a3b-fp8", Parallel(8, ep=2), False),
        ("qwen3-30b-a3b-fp8", Parallel(1, dp=4), False),  # attention whole, experts cut over all four
        ("qwen3-235b-a22b-fp8", Parallel(4), True),
        ("qwen3-235b-a22b-fp8", Parallel(8), False),
        ("qwen3-235b-a22b-fp8", Parallel(8, ep=8), True),
        ("minimax-m2.5", Parallel(4), True),
        ("minimax-m2.5", Parallel(8), False),
        ("qwen3-30b-a3b", Parallel(4), True),  # bf16 has no blocks
        ("qwen3-32b-fp8", Parallel(8), True),  # 25,600 / 8 = 25 x 128
        ("qwen3-32b-fp8", Parallel(16), False),
        ("deepseek-v3", Parallel(16), True),  # 2,048 / 16 = 128, 18,432 / 16 = 9 x 128
        ("deepseek-v3", Parallel(32), False),
        ("gpt-oss-120b", Parallel(8), True),  # experts in mxfp4 are padded
    ],
)
def test_blocks_of_128_stay_whole(name, parallel, works):
    model = load_model(name)
    if works:
        check(model, parallel)
        return
    with pytest.raises(ModelError, match="blocks of 128 x 128"):
        check(model, parallel)


def test_the_layouts_that_work_are_named():
    with pytest.raises(ModelError) as error:
        check(load_model("qwen3-30b-a3b-fp8"), Parallel(4))
    assert "moe_intermediate_size is 192 wide when cut 4 ways" in str(error.value)
    assert "layouts that work: tp 1, 2; or tp 4 with ep 2, 4" in str(error.value)


# AWQ and GPTQ of vLLM: "the input size is not aligned with the quantized weight shape" when rows of a rank are no whole groups.
def test_groups_of_rows_stay_whole():
    check(dense(quant_method="awq", bits=4, group_size=128), Parallel(8))  # 14,336 / 8 = 14 x 128
    odd = dense(11008, quant_method="gptq", bits=4, group_size=128)
    check(odd, Parallel(2))  # 43 x 128
    with pytest.raises(
        ModelError, match=r"intermediate_size is 2752 wide when cut 4 ways, which groups of 128 .* layouts that work: tp 1, 2"
    ):
        check(odd, Parallel(4))
    check(dense(11008, quant_method="gptq", bits=4, group_size=64), Parallel(4))  # 2,752 = 43 x 64
    check(dense(11008, quant_method="gptq", bits=4, group_size=-1), Parallel(8))
    check(dense(11008, quant_method="modelopt", quant_algo="NVFP4"), Parallel(8))  # 1,376 = 86 x 16
    check(dense(11008, quant_method="fp8"), Parallel(8))


@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_bitsandbytes_checkpoints_are_not_cut(bits):
    model = dense(quant_method="bitsandbytes", **{bits: True})
    check(model, Parallel(pp=2))
    with pytest.raises(ModelError, match=r"bitsandbytes weights .* cannot be cut.*layouts that work: tp 1"):
        check(model, Parallel(2))


def test_only_the_quantised_layers_count():
    kept = dense(11008, quant_method="fp8", weight_block_size=[128, 128], modules_to_not_convert=["mlp"])
    check(kept, Parallel(4))
    with pytest.raises(ModelError, match="blocks of 128"):
        check(dense(11008, quant_method="fp8", weight_block_size=[128, 128]), Parallel(4))


def test_replicated_key_heads_are_whole_blocks():
    """Eight ranks of four key heads of 128: each holds one, whole; heads of 64 would be half a block."""
    check(from_config({**DENSE, "num_key_value_heads": 4, "intermediate_size": 8192}, name="m"), Parallel(8))
    narrow = {**DENSE, "num_attention_heads": 64, "head_dim": 64, "num_key_value_heads": 8, "intermediate_size": 8192}
    narrow |= {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    check(from_config(narrow, name="m"), Parallel(4))
    with pytest.raises(ModelError, match="the key projection is 64 wide when cut 8 ways"):
        check(from_config(narrow, name="m"), Parallel(8))
