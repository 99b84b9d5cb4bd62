"""How a checkpoint is quantised, from `quantization_config` (or NVIDIA's `hf_quant_config.json`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from simserve.errors import ModelError
from simserve.files.words import clipped
from simserve.model.config_file import Config
from simserve.model.number_formats import numbers, weight_only
from simserve.model.quantisation import PARTS, Quantisation
from simserve.model.quantisation_groups import compressed_rules, has_groups, modelopt_rules, quark_rules
from simserve.model.quantisation_rules import Patterns, Rules
from simserve.model.weight_format import PLAIN, WeightFormat

_KEPT = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules", "skip_modules", "exclude")


def read_quantisation(config: Config, num_layers: int, present: Iterable[str] = ()) -> Quantisation:
    """The formats described by a `quantization_config` object, layer by layer, for a model with the matrices `present` (see `Rules`).

    Raises ModelError for a method whose bytes are not known, or formats that contradict each other.
    """
    name = config.text("quant_method").lower().replace("_", "-")
    algorithm = config.text("quant_algo").upper()
    kept = Patterns(entry for key in _KEPT for entry in config.items(key))
    for method, reader in _READERS.items():
        if name == method:
            return reader(config, kept).applied(num_layers, present)
    if has_groups(config):
        return compressed_rules(config, kept).applied(num_layers, present)
    if algorithm:
        return modelopt_rules(config, kept).applied(num_layers, present)
    raise ModelError(
        f"{config.where}: quantisation '{clipped(name or 'unnamed')}' is not supported. Supported: {', '.join(sorted(_READERS))}; "
        "compressed-tensors and modelopt with fp8, int8, int4, nvfp4 or mxfp4 weights"
    )


def _fp8(config: Config, kept: Patterns) -> Rules:
    return Rules(_fp8_format(config), kept)


def _fp8_format(config: Config) -> WeightFormat:
    block = config.items("weight_block_size")
    if block and block != [128, 128]:
        raise ModelError(f"{config.where}: weight_block_size {clipped(str(block[:4]))} is not supported, only [128, 128]")
    return WeightFormat("fp8_block128" if block else "fp8")


def _finegrained_fp8(config: Config, kept: Patterns) -> Rules:
    return Rules(_fp8_format(config) if config.items("weight_block_size") else WeightFormat("fp8_block128"), kept)


def _mxfp4(config: Config, kept: Patterns) -> Rules:
    # The loader converts nothing but the routed experts, whatever the list says.
    return Rules(WeightFormat("w4a16_mxfp4"), kept, only=PARTS["experts"])


def _gptq(config: Config, kept: Patterns) -> Rules:
    """GPTQ and GPTQModel. `dynamic`: name patterns in order; `-:` leaves a module unquantised, `+:` or nothing changes its numbers.

    Zero points are kept where the quantisation is not symmetric, the row index with `desc_act` (act-order kernels read both).
    """
    own = _gptq_format(config, config)
    rules = Rules(own, kept, named_first=True)
    dynamic = config.section("dynamic")
    for pattern, changes in (dynamic.values if dynamic is not None else {}).items():
        text = str(pattern)
        expression = text[2:] if text[:2] in ("-:", "+:") else text
        stored = PLAIN
        if text[:2] != "-:":
            if not isinstance(changes, dict):
                raise ModelError(f"{config.where}: dynamic: '{clipped(text)}' must be an object")
            stored = _gptq_format(config, Config(config.values | changes, f"{config.where}: dynamic: '{clipped(text)}'"))
        rules.named.append((Patterns([expression], expressions=True), stored))
    if config.flag("lm_head"):
        rules.lm_head = own
        for patterns, stored in rules.named:
            if patterns.matches(["lm_head"]):
                rules.lm_head = stored
                break
    return rules


def _gptq_format(config: Config, numbers_of: Config) -> WeightFormat:
    bits = numbers_of.integer("bits", "w_bit")
    symmetric = numbers_of.flag("sym", True)
    return weight_only(numbers_of.where, bits, _group_size(numbers_of), symmetric, row_bytes=4 * numbers_of.flag("desc_act"))


def _awq(config: Config, kept: Patterns) -> Rules:
    stored = weight_only(config.where, config.integer("bits", "w_bit"), _group_size(config), not config.flag("zero_point", True))
    return Rules(stored, kept)


def _auto_round(config: Config, kept: Patterns) -> Rules:
    """AutoRound: as GPTQ, with `extra_config` by module name or expression; 16 bits are unquantised."""

    def stored(of: Config) -> WeightFormat:
        bits, kind = of.integer("bits", default=4), of.text("data_type", "int").lower()
        if bits >= 16:
            return PLAIN
        if kind.startswith(("mx", "nv", "fp")):
            acting = of.integer("act_bits", default=16)
            group = 32 if kind.startswith("mx") else 16 if kind.startswith("nv") else 0
            return numbers(of.where, "float", bits, group, "float", acting)
        return weight_only(of.where, bits, _group_size(of), of.flag("sym", True))

    rules = Rules(stored(config), kept, named_first=True)
    extra = config.section("extra_config")
    for name, changes in (extra.values if extra is not None else {}).items():
        if not isinstance(changes, dict):
            raise ModelError(f"{config.where}: extra_config: '{clipped(str(name))}' must be an object")
        own = stored(Config(config.values | changes, f"{config.where}: extra_config: '{clipped(str(name))}'"))
        is_expression = any(sign in str(name) for sign in "*[(\\^$|+")
        patterns = Patterns([name], expressions=is_expression, anywhere=True)
        rules.named.append((patterns, own))
        if patterns.matches(["lm_head"]):
            rules.lm_head = own
    return rules


def _bitsandbytes(config: Config, kept: Patterns) -> Rules:
    """bitsandbytes: 4 bits with a 4-byte scale for 64 weights, or with nested scales 1 byte and 4 bytes for 256 of those (QLoRA, arXiv
    2305.14314 §3); 8 bits with a scale a row (LLM.int8(), arXiv 2208.07339)."""
    if config.flag("load_in_4bit") or config.flag("_load_in_4bit"):
        nested = config.flag("bnb_4bit_use_double_quant")
        return Rules(WeightFormat("w4a16_nf4", group_bytes=1 + 4 / 256 if nested else None), kept)
    if config.flag("load_in_8bit") or config.flag("_load_in_8bit"):
        return Rules(WeightFormat("llm_int8"), kept)
    raise ModelError(f"{config.where}: neither load_in_4bit nor load_in_8bit is true")


def _torchao(config: Config, kept: Patterns) -> Rules:
    """torchao: a name with `quant_type_kwargs`, or a serialised configuration, maybe one for each module (`ModuleFqnToConfig`)."""
    value = config.values.get("quant_type")
    if isinstance(value, str):
        own = config.section("quant_type_kwargs")
        return Rules(_torchao_format(value, own or Config({}, config.where), config.where), kept)
    kinds = config.section("quant_type")
    chosen = None if kinds is None else kinds.section("default") or (kinds if kinds.has("_type") else None)
    if chosen is None:
        raise ModelError(f"{config.where}: quant_type must be a name or a configuration under 'default'")
    data = chosen.section("_data") or Config({}, chosen.where)
    by_module = data.section("module_fqn_to_config") or data.section("fqn_to_config")
    if by_module is None:
        return Rules(_torchao_format(chosen.text("_type"), data, config.where), kept)
    rules = Rules(PLAIN, kept)
    for name in by_module.values:
        entry = by_module.section(name)
        stored = PLAIN
        if entry is not None:
            stored = _torchao_format(entry.text("_type"), entry.section("_data") or Config({}, entry.where), entry.where)
        if name == "_default":
            rules.usual = stored
        else:
            rules.named.append((Patterns([name]), stored))
            if name == "lm_head":
                rules.lm_head = stored
    return rules


def _torchao_format(kind: str, data: Config, where: str) -> WeightFormat:
    """int4 keeps a scale and a zero point of 2 bytes each for a group (tensor-core tiled layout)."""
    word = kind.lower().replace("_", "").removesuffix("config")
    group = data.integer("group_size", default=32 if word == "int8dynamicactivationint4weight" else 128, minimum=-1)
    known = {
        "int4weightonly": WeightFormat("w4a16_int4", max(group, 0), 4),
        "int8weightonly": WeightFormat("w8a16_int8"),
        "int8dynamicactivationint8weight": WeightFormat("w8a8_int8"),
        "int8dynamicactivationint4weight": WeightFormat("w4a8_int4", max(group, 0)),
        "float8weightonly": WeightFormat("w8a16_fp8"),
        "float8dynamicactivationfloat8weight": WeightFormat("fp8"),
        "float8dynamicactivationint4weight": WeightFormat("w4a8_fp8", max(group, 0)),
        "mxdynamicactivationmxweight": WeightFormat("w4a4_mxfp4"),
        "nvfp4dynamicactivationnvfp4weight": WeightFormat("w4a4_nvfp4"),
        "nvfp4inference": WeightFormat("w4a4_nvfp4"),
    }
    if word not in known:
        raise ModelError(f"{where}: torchao quant_type '{clipped(kind)}' is not supported. Supported: {', '.join(sorted(known))}")
    return known[word]


def _hqq(config: Config, kept: Patterns) -> Rules:
    """HQQ: a scale and a zero point of 2 bytes each for a group."""
    inner = config.section("quant_config") or config
    weights = inner.section("weight_quant_params") or inner
    bits, group = weights.integer("nbits", "bits"), weights.integer("group_size", default=64, minimum=-1)
    stored = weight_only(config.where, bits, group, True)
    return Rules(WeightFormat(stored.method, max(group, 0), 4), kept)


def _eetq(config: Config, kept: Patterns) -> Rules:
    return Rules(WeightFormat("w8a16_int8"), kept)


def _group_size(config: Config) -> int:
    return config.integer("group_size", "q_group_size", default=128, minimum=-1)


_READERS: dict[str, Callable[[Config, Patterns], Rules]] = {
    "fp8": _fp8,
    "fbgemm-fp8": _fp8,
    "ptpc-fp8": _fp8,
    "finegrained-fp8": _finegrained_fp8,
    "mxfp4": _mxfp4,
    "gptq": _gptq,
    "gptq-marlin": _gptq,
    "awq": _awq,
    "awq-marlin": _awq,
    "auto-round": _auto_round,
    "intel/auto-round": _auto_round,
    "bitsandbytes": _bitsandbytes,
    "torchao": _torchao,
    "quark": quark_rules,
    "hqq": _hqq,
    "eetq": _eetq,
}
