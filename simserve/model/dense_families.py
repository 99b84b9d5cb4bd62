"""Readers of dense model families: which keys hold what, and what a family fixes without a key."""

from __future__ import annotations

from typing import Any

from simserve.errors import ModelError
from simserve.model.common_fields import ALL_BIASES, common, layernorm_decoder, rmsnorm_decoder
from simserve.model.config_file import Config


def llama(config: Config) -> dict[str, Any]:
    """Llama and what shares its code: Yi, CodeLlama, Aquila, InternLM; RMSNorm, rotary, SwiGLU."""
    bias = config.flag("attention_bias") or config.flag("bias")
    return rmsnorm_decoder(config) | {"qkv_bias": bias, "output_bias": bias, "mlp_bias": config.flag("mlp_bias")}


def deci(config: Config) -> dict[str, Any]:
    """DeciLM: Llama with a number of key/value heads for each layer (`num_key_value_heads_per_layer`).

    Engines page all layers alike: vLLM degroups keys and values to the largest number of heads when it loads the weights
    (vllm/model_executor/models/decilm.py), and so do we.
    """
    fields = llama(config)
    heads = [h for h in config.items("num_key_value_heads_per_layer") if isinstance(h, int)]
    return fields | {"num_kv_heads": max(heads)} if heads else fields


def mistral(config: Config) -> dict[str, Any]:
    """Mistral: Llama with a sliding window on every layer when `sliding_window` is set."""
    return rmsnorm_decoder(config) | {"layer_windows": config.integer("sliding_window", default=0)}


def qwen1(config: Config) -> dict[str, Any]:
    """Qwen (first generation): `intermediate_size` counts gate and up together; biases only on QKV."""
    fields = common(config)
    return fields | {
        "head_dim": config.integer("kv_channels", default=fields["head_dim"]),
        "intermediate_size": config.integer("intermediate_size") // 2,
        "max_position_embeddings": config.integer("max_position_embeddings", "seq_length"),
        "qkv_bias": True,
    }


def qwen2(config: Config) -> dict[str, Any]:
    """Qwen1.5, Qwen2, Qwen2.5, MiMo: biases only on QKV; an optional window on the layers from `max_window_layers` on."""
    return rmsnorm_decoder(config) | {"qkv_bias": True, "layer_windows": _qwen_windows(config)}


def qwen3(config: Config) -> dict[str, Any]:
    """Qwen3: no QKV bias, RMSNorm on each head's query and key."""
    bias = config.flag("attention_bias")
    return rmsnorm_decoder(config) | {"qkv_bias": bias, "output_bias": bias, "qk_norm": True, "layer_windows": _qwen_windows(config)}


def opt(config: Config) -> dict[str, Any]:
    """OPT: LayerNorm, learned positions (two more rows than positions), ReLU, biases everywhere, tied head."""
    hidden = config.integer("hidden_size")
    projected = config.integer("word_embed_proj_dim", default=hidden)
    if projected != hidden or not config.flag("do_layer_norm_before", True):
        raise ModelError(f"{config.where}: OPT with word_embed_proj_dim {projected} or post-norm (OPT-350M) is not supported")
    positions = config.integer("max_position_embeddings")
    return layernorm_decoder(config, config.integer("ffn_dim"), positions) | {
        "learned_positions": positions + 2,
        "rotary": False,
        "tie_word_embeddings": config.flag("tie_word_embeddings", True),
        **ALL_BIASES,
    }


def bloom(config: Config) -> dict[str, Any]:
    """BLOOM: ALiBi, LayerNorm also after the embedding, MLP of 4 x hidden, biases everywhere, tied head."""
    hidden = config.integer("hidden_size", "n_embed", "n_embd")
    return layernorm_decoder(config, 4 * hidden, config.integer("seq_length", default=2048)) | {
        "rotary": False,
        "embedding_norm": True,
        "tie_word_embeddings": config.flag("tie_word_embeddings", True),
        **ALL_BIASES,
    }


def falcon(config: Config) -> dict[str, Any]:
    """Falcon: attention and MLP in parallel; 180B and 40B have grouped KV heads and a LayerNorm for each of the two, 7B has one of each."""
    new = config.flag("new_decoder_architecture")
    if not new and not config.flag("parallel_attn", True):
        raise ModelError(f"{config.where}: Falcon with parallel_attn false (Falcon-RW) is not supported")
    hidden = config.integer("hidden_size")
    if new:
        kv_heads = config.integer("num_kv_heads", "num_key_value_heads")
    else:
        kv_heads = 1 if config.flag("multi_query", True) else config.integer("num_attention_heads", "n_head")
    bias = config.flag("bias")
    fields = layernorm_decoder(
        config, config.integer("ffn_hidden_size", default=4 * hidden), config.integer("max_position_embeddings", default=2048)
    )
    return fields | {
        "num_kv_heads": kv_heads,
        "parallel_attention_mlp": True,
        "norms_per_layer": 2 if new else 1,
        "rotary": not config.flag("alibi"),
        "tie_word_embeddings": config.flag("tie_word_embeddings", True),
        "qkv_bias": bias,
        "output_bias": bias,
        "mlp_bias": bias,
    }


def phi(config: Config) -> dict[str, Any]:
    """Phi-1.5 and Phi-2: attention and MLP in parallel behind one LayerNorm, biases everywhere, also on the LM head."""
    fields = layernorm_decoder(config, config.integer("intermediate_size"), config.integer("max_position_embeddings"))
    return fields | {"parallel_attention_mlp": True, "norms_per_layer": 1, "lm_head_bias": True, **ALL_BIASES}


def gptj(config: Config) -> dict[str, Any]:
    """GPT-J: as Phi-2, without biases in attention."""
    width = config.integer("n_inner", default=4 * config.integer("n_embd"))
    fields = layernorm_decoder(config, width, config.integer("n_positions"))
    return fields | {"parallel_attention_mlp": True, "norms_per_layer": 1, "lm_head_bias": True, "mlp_bias": True}


def _qwen_windows(config: Config) -> tuple[int, ...] | int:
    if not config.flag("use_sliding_window") or not config.has("sliding_window"):
        return 0
    layers, window = config.integer("num_hidden_layers"), config.integer("sliding_window")
    first = config.integer("max_window_layers", default=layers, minimum=0)
    return tuple(window if i >= first else 0 for i in range(layers))
