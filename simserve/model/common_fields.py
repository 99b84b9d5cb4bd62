"""What most decoder configurations have in common: the dimensions, and the two styles of block."""

from __future__ import annotations

from typing import Any

from simserve.errors import ModelError
from simserve.model.config_file import Config

ALL_BIASES = {"qkv_bias": True, "output_bias": True, "mlp_bias": True}

_MOST_LAYERS = 10_000  # a corrupt file must not make us build tables of a billion layers


def common(config: Config) -> dict[str, Any]:
    """The dimensions nearly every decoder spells alike (older families use GPT-2 style names)."""
    layers = config.integer("num_hidden_layers", "n_layer", "num_layers")
    if layers > _MOST_LAYERS:
        raise ModelError(f"{config.where}: {layers} layers; at most {_MOST_LAYERS} are supported")
    hidden = config.integer("hidden_size", "n_embd", "d_model")
    heads = config.integer("num_attention_heads", "n_head")
    return {
        "num_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_kv_heads": config.integer("num_key_value_heads", "num_kv_heads", default=heads),
        "head_dim": config.integer("head_dim", default=max(1, hidden // heads)),
        "vocab_size": config.integer("vocab_size"),
    }


def rmsnorm_decoder(config: Config) -> dict[str, Any]:
    """RMSNorm, rotary positions, gated MLP; the dense width may be absent when every layer has experts."""
    return common(config) | {
        "intermediate_size": config.integer("intermediate_size", default=0 if _experts_only(config) else None, minimum=0),
        "max_position_embeddings": config.integer("max_position_embeddings"),
        "tie_word_embeddings": config.flag("tie_word_embeddings"),
    }


def layernorm_decoder(config: Config, intermediate_size: int, positions: int) -> dict[str, Any]:
    """LayerNorm and an MLP of two matrices, as before Llama."""
    return common(config) | {
        "intermediate_size": intermediate_size,
        "max_position_embeddings": positions,
        "tie_word_embeddings": config.flag("tie_word_embeddings"),
        "norm": "layernorm",
        "gated_mlp": False,
    }


def _experts_only(config: Config) -> bool:
    return config.has("moe_intermediate_size") and not config.items("mlp_only_layers")
