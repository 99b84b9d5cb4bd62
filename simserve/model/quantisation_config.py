"""Which parts of a checkpoint are quantised and how, from `quantization_config` (or NVIDIA's `hf_quant_config.json`)."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any

from simserve.errors import ModelError
from simserve.model.config_file import Config
from simserve.model.quantisation import Quantisation
from simserve.model.weight_format import QuantMethod

# Modules of a middle layer that stand for each part; checkpoints name them differently.
_REPRESENTATIVES = {
    "attention": ("self_attn.q_proj", "self_attn.qkv_proj", "self_attn.kv_b_proj", "self_attn.o_proj"),
    "mlp": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "feed_forward.gate_proj"),
    "shared_experts": (
        "mlp.shared_experts.gate_proj",
        "mlp.shared_expert.gate_proj",
        "feed_forward.shared_expert.gate_proj",
    ),
    "experts": (
        "mlp.experts.0.gate_proj",
        "mlp.experts.gate_up_proj",
        "block_sparse_moe.experts.0.w1",
        "feed_forward.experts.0.gate_proj",
    ),
}


def read_quantisation(config: Config, num_layers: int) -> Quantisation:
    """The formats described by a `quantization_config` object. Raises ModelError for a method the cost models do not know."""
    method, group_size = _method(config)
    ignored = [str(name) for key in ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers") for name in config.items(key)]
    layer = f"model.layers.{num_layers // 2}."
    parts: dict[str, QuantMethod] = {}
    for part, modules in _REPRESENTATIVES.items():
        kept = any(_matches(pattern, layer + module) for pattern in ignored for module in modules)
        # The mxfp4 loader converts nothing but the routed experts, whatever the list says.
        only_experts = method == "w4a16_mxfp4" and config.text("quant_method") == "mxfp4" and part != "experts"
        parts[part] = "none" if kept or only_experts else method
    return Quantisation(**parts, group_size=group_size)


def _method(config: Config) -> tuple[QuantMethod, int]:
    name = config.text("quant_method").lower()
    algorithm = config.text("quant_algo").upper()
    group_size = config.integer("group_size", default=128, minimum=-1)
    if name in ("fp8", "fbgemm_fp8") or algorithm.startswith("FP8"):
        block = config.items("weight_block_size")
        if not block:
            return "fp8", 128
        if block != [128, 128]:
            raise ModelError(f"{config.where}: weight_block_size {block} is not supported, only [128, 128]")
        return "fp8_block128", 128
    if name == "mxfp4":
        return "w4a16_mxfp4", 32
    if name in ("gptq", "awq", "gptq_marlin", "awq_marlin"):
        bits = config.integer("bits", "w_bit")
        if bits not in (4, 8):
            raise ModelError(f"{config.where}: {bits}-bit {name} is not supported, only 4 and 8 bits")
        return ("w4a16_int4" if bits == 4 else "w8a16_int8"), group_size if group_size > 0 else 128
    groups = config.section("config_groups")
    if groups is not None:
        found = {_compressed(group, f"{groups.where}.{key}") for key, group in groups.values.items()}
        if len(found) == 1:
            return found.pop()
        raise ModelError(f"{groups.where} mixes {len(found)} formats; one format for all quantised layers is supported")
    if algorithm in ("W8A8_SQ_PER_CHANNEL", "INT8_SQ"):
        return "w8a8_int8", 128
    if algorithm == "W4A16_AWQ":
        return "w4a16_int4", group_size if group_size > 0 else 128
    raise ModelError(
        f"{config.where}: quantisation '{name or algorithm or 'unnamed'}' is not supported. "
        "Supported: fp8, fbgemm_fp8, mxfp4, gptq, awq, compressed-tensors and modelopt with fp8, int8, int4 or mxfp4 weights"
    )


def _compressed(group: Any, where: str) -> tuple[QuantMethod, int]:
    """One entry of compressed-tensors' or modelopt's `config_groups`."""
    if not isinstance(group, dict):
        raise ModelError(f"{where} is {group!r}, it must be an object")
    config = Config(group, where)
    weights, inputs = config.section("weights"), config.section("input_activations")
    if weights is None:
        raise ModelError(f"{where}: key 'weights' is missing")
    bits, kind = weights.integer("num_bits"), weights.text("type", "int")
    group_size = weights.integer("group_size", default=128, minimum=-1)
    input_bits = 16 if inputs is None else inputs.integer("num_bits")
    formats: dict[tuple[str, int, int], QuantMethod] = {
        ("float", 8, 8): "fp8_block128" if weights.text("strategy") == "block" else "fp8",
        ("int", 8, 8): "w8a8_int8",
        ("int", 8, 16): "w8a16_int8",
        ("int", 4, 16): "w4a16_int4",
        ("float", 4, 16): "w4a16_mxfp4",
    }
    method = formats.get((kind, bits, input_bits))
    if method is None or (method == "w4a16_mxfp4" and group_size != 32):
        raise ModelError(f"{where}: {bits}-bit {kind} weights (group {group_size}) with {input_bits}-bit activations are not supported")
    return method, group_size if group_size > 0 else 128


def _matches(pattern: str, module: str) -> bool:
    """Whether a list entry covers a module: a regular expression after `re:`, a glob, or whole dotted parts of its name."""
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], module) is not None
        except re.error:
            return False
    if "*" in pattern:
        return fnmatchcase(module, pattern) or fnmatchcase(module, f"{pattern}.*")
    return f".{pattern}." in f".{module}."
