"""Readers of dense families of 2024 to 2026: which keys hold what, and what a family fixes without a key.

Where a publisher's file leaves a key out, the default is that of the family's configuration class in Hugging Face transformers.
"""

from __future__ import annotations

from typing import Any

from simserve.errors import ModelError
from simserve.files.words import shown
from simserve.model.common_fields import rmsnorm_decoder
from simserve.model.config_file import Config
from simserve.model.dense_families import llama
from simserve.model.layer_patterns import windows


def _with_defaults(config: Config, **defaults: Any) -> Config:
    given = {key: value for key, value in config.values.items() if value is not None}
    return Config(defaults | given, config.where)


def gemma(config: Config) -> dict[str, Any]:
    """Gemma: RMSNorm, gated GELU, tied embeddings."""
    config = _with_defaults(config, tie_word_embeddings=True, max_position_embeddings=8192, vocab_size=256_000, head_dim=256)
    bias = config.flag("attention_bias")
    return rmsnorm_decoder(config) | {"qkv_bias": bias, "output_bias": bias}


def gemma2(config: Config) -> dict[str, Any]:
    """Gemma 2 (arXiv 2408.00118): a window on every other layer, norms also after attention and MLP."""
    config = _with_defaults(config, sliding_window=4096)
    fields = gemma(config)
    return fields | {"norms_per_layer": 4} | windows(config, fields["num_layers"], config.integer("sliding_window"), 2)


def gemma3(config: Config) -> dict[str, Any]:
    """Gemma 3 (arXiv 2503.19786 §2): five layers with a window for each with full attention, normalised queries and keys."""
    config = _with_defaults(
        config,
        vocab_size=262_208,
        hidden_size=2304,
        intermediate_size=9216,
        num_hidden_layers=26,
        num_attention_heads=8,
        num_key_value_heads=4,
        sliding_window=4096,
        max_position_embeddings=131_072,
    )
    fields = gemma(config)
    every = config.integer("sliding_window_pattern", "_sliding_window_pattern", default=6)
    own = {"norms_per_layer": 4, "qk_norm": True}
    return fields | own | windows(config, fields["num_layers"], config.integer("sliding_window"), every)


def olmo2(config: Config) -> dict[str, Any]:
    """OLMo 2 (arXiv 2501.00656): norms after attention and MLP, and over all heads' queries and keys together."""
    bias = config.flag("attention_bias")
    return rmsnorm_decoder(config) | {"qkv_bias": bias, "output_bias": bias, "qk_norm": True, "qk_norm_whole": True}


def olmo3(config: Config) -> dict[str, Any]:
    """OLMo 3: OLMo 2 with a window on three layers of four."""
    fields = olmo2(config)
    return fields | windows(config, fields["num_layers"], config.integer("sliding_window", default=4096), 4)


def seed_oss(config: Config) -> dict[str, Any]:
    """Seed-OSS: Llama with biases on QKV, and a switch of its own for the output projection."""
    own = {"qkv_bias": config.flag("attention_bias", True), "output_bias": config.flag("attention_out_bias")}
    return rmsnorm_decoder(config) | own | {"mlp_bias": config.flag("mlp_bias")}


def smollm3(config: Config) -> dict[str, Any]:
    """SmolLM3: Llama without rotary positions on every fourth layer, embeddings tied."""
    config = _with_defaults(config, tie_word_embeddings=True)
    fields = llama(config)
    window = config.integer("sliding_window", default=0, minimum=0) if config.flag("use_sliding_window") else 0
    return fields | windows(config, fields["num_layers"], window)


def glm(config: Config) -> dict[str, Any]:
    """GLM-4-9B: Llama with biases on QKV."""
    return rmsnorm_decoder(config) | {"qkv_bias": config.flag("attention_bias")}


def glm4(config: Config) -> dict[str, Any]:
    """GLM-4-0414 and the text side of GLM-4.1V: norms also after attention and MLP."""
    return glm(config) | {"norms_per_layer": 4}


def ernie4_5(config: Config) -> dict[str, Any]:
    """ERNIE 4.5 dense: Llama with one switch for all biases, embeddings tied."""
    bias = config.flag("use_bias")
    return rmsnorm_decoder(_with_defaults(config, tie_word_embeddings=True)) | dict.fromkeys(("qkv_bias", "output_bias", "mlp_bias"), bias)


def hunyuan_dense(config: Config) -> dict[str, Any]:
    """Hunyuan dense: Llama with normalised queries and keys."""
    return llama(config) | {"qk_norm": config.flag("use_qk_norm", True)}


def exaone4(config: Config) -> dict[str, Any]:
    """EXAONE 4.0 (arXiv 2507.11407 §2): norms after attention and MLP and on queries and keys; the 32B model has a window on three
    layers of four (`sliding_window_pattern`: a number, or letters L and G)."""
    fields = rmsnorm_decoder(config) | {"qk_norm": True}
    layers, window = fields["num_layers"], config.integer("sliding_window", default=0, minimum=0)
    pattern = config.values.get("sliding_window_pattern")
    if isinstance(pattern, str) and window and not config.items("layer_types"):
        if not pattern or set(pattern) - {"L", "G"}:
            raise ModelError(f"{config.where}: sliding_window_pattern is {shown(pattern)}, it must be a number or letters L and G")
        return fields | {"layer_windows": tuple(window if pattern[i % len(pattern)] == "L" else 0 for i in range(layers))}
    every = 4 if isinstance(pattern, str) else config.integer("sliding_window_pattern", default=4)
    return fields | windows(config, layers, window, every)


def ministral3(config: Config) -> dict[str, Any]:
    """Ministral 3: Llama; a window where the configuration has one."""
    fields = rmsnorm_decoder(config)
    return fields | windows(config, fields["num_layers"], config.integer("sliding_window", default=0, minimum=0))


def cohere(config: Config) -> dict[str, Any]:
    """Command R: attention and gated MLP in parallel behind one LayerNorm, embeddings tied."""
    fields = rmsnorm_decoder(_with_defaults(config, tie_word_embeddings=True))
    bias = config.flag("attention_bias")
    own = {"norm": "layernorm", "norms_per_layer": 1, "parallel_attention_mlp": True, "qk_norm": config.flag("use_qk_norm")}
    return fields | own | {"qkv_bias": bias, "output_bias": bias}


def cohere2(config: Config) -> dict[str, Any]:
    """Command A and R7B (arXiv 2504.00698 §2): three layers of four with a window."""
    fields = cohere(config)
    every = config.integer("sliding_window_pattern", "_sliding_window_pattern", default=4)
    return fields | windows(config, fields["num_layers"], config.integer("sliding_window", default=4096), every)


def arcee(config: Config) -> dict[str, Any]:
    """Arcee AFM: Llama with an MLP of two matrices (squared ReLU)."""
    return llama(config) | {"gated_mlp": False}


def apertus(config: Config) -> dict[str, Any]:
    """Apertus (arXiv 2509.14233 §2): an MLP of two matrices (xIELU), normalised queries and keys."""
    return llama(config) | {"gated_mlp": False, "qk_norm": True}


def nemotron(config: Config) -> dict[str, Any]:
    """Nemotron-4 and Minitron: LayerNorm, an MLP of two matrices (squared ReLU)."""
    return llama(config) | {"gated_mlp": False, "norm": "layernorm"}


def nemotron_nas(config: Config) -> dict[str, Any]:
    """Llama-Nemotron (arXiv 2411.19146, Puzzle): Llama whose layers have key/value heads and an MLP width of their own, or neither.

    The width is 2/3 ffn_mult x hidden size, rounded up to a multiple of 256, or given (vLLM, nemotron_nas.py). Raises ModelError for
    blocks that were replaced by a linear layer, experts or a state space, which engines do not load either.
    """
    layers, heads = config.integer("num_hidden_layers", maximum=10_000), config.integer("num_attention_heads")
    blocks = config.items("block_configs")
    if len(blocks) != layers:
        raise ModelError(f"{config.where}: block_configs has {len(blocks)} entries for {layers} layers")
    kv_heads: list[int] = []
    widths: list[int] = []
    window: list[int] = []
    for number, block in enumerate(blocks):
        where = f"{config.where}: block_configs[{number}]"
        if not isinstance(block, dict):
            raise ModelError(f"{where} is {shown(block)}, it must be an object")
        attention, ffn = Config(block, where).section("attention"), Config(block, where).section("ffn")
        if attention is None or ffn is None:
            raise ModelError(f"{where}: keys 'attention' and 'ffn' are needed")
        for part in (attention, ffn):
            for key in ("replace_with_linear", "moe", "mamba", "llama4"):
                if part.values.get(key):
                    raise ModelError(f"{part.where}: {key} is not supported")
        kv_heads.append(0 if attention.flag("no_op") else _group_heads(attention, heads))
        widths.append(0 if ffn.flag("no_op") else _width(ffn, config))
        window.append(attention.integer("window_length", default=0, minimum=0))
    most = max(kv_heads) or heads
    filled = _with_defaults(config, num_key_value_heads=most)
    fields = llama(Config(filled.values | {"intermediate_size": max(widths)}, config.where))
    differ = len(set(kv_heads) - {0}) > 1
    return fields | {
        "num_kv_heads": most,
        "attending_layers": tuple(n > 0 for n in kv_heads),
        "layer_kv_heads": tuple(n or most for n in kv_heads) if differ else (),
        "layer_widths": tuple(widths),
        "layer_windows": tuple(window),
    }


def _group_heads(attention: Config, heads: int) -> int:
    if attention.has("num_key_value_heads"):
        return attention.integer("num_key_value_heads")
    group = attention.integer("n_heads_in_group")
    if heads % group:
        raise ModelError(f"{attention.where}: n_heads_in_group {group} does not divide num_attention_heads {heads}")
    return heads // group


def _width(ffn: Config, config: Config) -> int:
    if ffn.has("intermediate_size"):
        return ffn.integer("intermediate_size")
    width = int(2 * ffn.number("ffn_mult", most=1000.0) * config.integer("hidden_size") / 3)
    return max(256, -(-width // 256) * 256)
