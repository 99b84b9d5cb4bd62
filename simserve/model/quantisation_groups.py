"""Checkpoints that name groups of modules with their numbers: compressed-tensors, NVIDIA modelopt, AMD Quark."""

from __future__ import annotations

from typing import Any

from simserve.errors import ModelError
from simserve.files.words import clipped, shown
from simserve.model.config_file import Config
from simserve.model.number_formats import numbers, weight_only
from simserve.model.quantisation_rules import Patterns, Rules
from simserve.model.weight_format import PLAIN, WeightFormat

_ALGORITHMS: dict[str, WeightFormat] = {
    "FP8": WeightFormat("fp8"),
    "FP8_PER_CHANNEL_PER_TOKEN": WeightFormat("fp8"),
    "FP8_PB_WO": WeightFormat("fp8_block128"),
    "FP8_PB_REAL": WeightFormat("fp8_block128"),
    "FP8_BLOCK_SCALES": WeightFormat("fp8_block128"),
    "MXFP8": WeightFormat("w8a8_mxfp8"),
    "NVFP4": WeightFormat("w4a4_nvfp4"),
    "NVFP4_AWQ": WeightFormat("w4a4_nvfp4"),
    "W4A16_NVFP4": WeightFormat("w4a16_nvfp4"),
    "MXFP4": WeightFormat("w4a4_mxfp4"),
    "W4A16_MXFP4": WeightFormat("w4a16_mxfp4"),
    "W8A8_SQ_PER_CHANNEL": WeightFormat("w8a8_int8"),
    "INT8_SQ": WeightFormat("w8a8_int8"),
    "W8A16": WeightFormat("w8a16_int8"),
}
"""NVIDIA modelopt's names."""

_CLASSES = frozenset(("Linear", "LinearBase", "FusedMoE", "MoE"))
"""Targets that are classes of modules, not names."""


def has_groups(config: Config) -> bool:
    """Whether the configuration names groups of modules."""
    return config.section("config_groups") is not None


def compressed_rules(config: Config, kept: Patterns) -> Rules:
    """compressed-tensors, and modelopt where it writes the same: each entry of `config_groups` has targets, classes (`Linear`) or names.

    Engines leave the LM head unquantised unless a target names it.
    """
    groups = config.section("config_groups")
    assert groups is not None
    rules = Rules(PLAIN, kept)
    whole: list[WeightFormat] = []
    for key, group in groups.values.items():
        where = f"{groups.where}.{clipped(str(key))}"
        stored = _compressed(group, where)
        targets = Config(group, where).items("targets") or ["Linear"]
        names = [target for target in targets if not isinstance(target, str) or target not in _CLASSES]
        if len(names) < len(targets):
            whole.append(stored)
        patterns = Patterns(names)
        if patterns:
            rules.named.append((patterns, stored))
            if patterns.matches(["lm_head"]):
                rules.lm_head = stored
    if len(set(whole)) > 1:
        raise ModelError(f"{groups.where}: {len(set(whole))} formats for all linear layers; give all but one of them names as targets")
    rules.usual = whole[0] if whole else PLAIN
    return rules


def _compressed(group: Any, where: str) -> WeightFormat:
    if not isinstance(group, dict):
        raise ModelError(f"{where} is {shown(group)}, it must be an object")
    config = Config(group, where)
    weights, inputs = config.section("weights"), config.section("input_activations")
    if weights is None:
        raise ModelError(f"{where}: key 'weights' is missing")
    strategy = weights.text("strategy")
    grouped = strategy not in ("channel", "tensor", "block")
    return numbers(
        where,
        weights.text("type", "int"),
        weights.integer("num_bits"),
        weights.integer("group_size", default=128, minimum=-1) if grouped else 0,
        "int" if inputs is None else inputs.text("type", "int"),
        16 if inputs is None else inputs.integer("num_bits"),
        symmetric=weights.flag("symmetric", True),
        block=strategy == "block" and _is_128(weights),
    )


def _is_128(weights: Config) -> bool:
    block = weights.values.get("block_structure") or [128, 128]
    if block not in ([128, 128], "128x128"):
        raise ModelError(f"{weights.where}: block_structure {shown(block)} is not supported, only [128, 128]")
    return True


def modelopt_rules(config: Config, kept: Patterns) -> Rules:
    """modelopt by `quant_algo`; MIXED_PRECISION names the algorithm of each module in `quantized_layers`."""
    if config.text("quant_algo").upper() != "MIXED_PRECISION":
        return Rules(_algorithm(config), kept)
    modules = config.section("quantized_layers")
    if modules is None:
        raise ModelError(f"{config.where}: quant_algo MIXED_PRECISION without 'quantized_layers'")
    rules = Rules(PLAIN, kept)
    by_format: dict[WeightFormat, list[str]] = {}
    for name in modules.values:
        entry = modules.section(name)
        if entry is not None:
            by_format.setdefault(_algorithm(entry), []).append(name)
    for stored, names in by_format.items():
        rules.named.append((Patterns(names), stored))
        if "lm_head" in names:
            rules.lm_head = stored
    return rules


def _algorithm(config: Config) -> WeightFormat:
    word = config.text("quant_algo").upper()
    group = config.integer("group_size", default=128, minimum=-1)
    if word in ("W4A16_AWQ", "INT4_AWQ", "W4A16"):
        return weight_only(config.where, 4, group, True)
    if word == "W4A8_AWQ":
        return WeightFormat("w4a8_fp8", max(group, 0))  # 4-bit integers, activations in fp8
    if word == "FP8" and config.items("weight_block_size"):
        return WeightFormat("fp8_block128")
    if word not in _ALGORITHMS:
        raise ModelError(
            f"{config.where}: quant_algo '{clipped(word)}' is not supported. "
            f"Supported: {', '.join(sorted([*_ALGORITHMS, 'W4A16_AWQ', 'W4A8_AWQ', 'MIXED_PRECISION']))}"
        )
    return _ALGORITHMS[word]


def quark_rules(config: Config, kept: Patterns) -> Rules:
    """Quark: `global_quant_config`, others by name in `layer_quant_config`, and by class in `layer_type_quant_config`."""
    usual = config.section("global_quant_config")
    rules = Rules(PLAIN if usual is None else _quark(usual), kept)
    by_class = config.section("layer_type_quant_config")
    linear = None if by_class is None else by_class.section("Linear") or by_class.section("nn.Linear")
    if linear is not None:
        rules.usual = _quark(linear)
    by_name = config.section("layer_quant_config")
    for name in by_name.values if by_name is not None else ():
        assert by_name is not None
        entry = by_name.section(name)
        stored = PLAIN if entry is None else _quark(entry)
        patterns = Patterns([name])
        rules.named.append((patterns, stored))
        if patterns.matches(["lm_head"]):
            rules.lm_head = stored
    return rules


_QUARK = {"fp8": ("float", 8), "int8": ("int", 8), "uint8": ("int", 8), "int4": ("int", 4), "uint4": ("int", 4), "fp4": ("float", 4)}


def _quark(config: Config) -> WeightFormat:
    weights = config.section("weight")
    if weights is None:
        return PLAIN
    inputs = config.section("input_tensors")
    kind, bits = _quark_type(weights)
    input_kind, input_bits = ("float", 16) if inputs is None else _quark_type(inputs)
    scheme = weights.text("qscheme")
    group = weights.integer("group_size", default=32 if (kind, bits) == ("float", 4) else 128, minimum=-1)
    grouped = scheme in ("per_group", "") and not (kind == "float" and bits == 8)
    symmetric = weights.flag("symmetric", weights.text("dtype").startswith("int"))
    return numbers(
        config.where, kind, bits, group if grouped else 0, input_kind, input_bits, symmetric=symmetric, block=scheme == "per_block"
    )


def _quark_type(tensor: Config) -> tuple[str, int]:
    word = tensor.text("dtype").lower().split("_")[0]
    if word in ("bfloat16", "float16"):
        return "float", 16
    if word not in _QUARK:
        raise ModelError(f"{tensor.where}: dtype '{clipped(word)}' is not supported. Supported: {', '.join(sorted(_QUARK))}")
    return _QUARK[word]
