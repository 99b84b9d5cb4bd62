"""Readers of mixture-of-experts families, with latent, windowed and linear attention where they have it."""

from __future__ import annotations

from typing import Any

from simserve.model.common_fields import rmsnorm_decoder
from simserve.model.config_file import Config
from simserve.model.dense_families import mistral, qwen2, qwen3
from simserve.model.layer_patterns import for_each_layer
from simserve.model.parts import Experts, LatentAttention, LinearAttention, SparseIndexer

MOST_EXPERTS = 65_536
"""No layer has more; the fraction of them that a step reads is counted expert by expert."""


def mixtral(config: Config) -> dict[str, Any]:
    """Mixtral: Mistral with experts of `intermediate_size` in every layer."""
    experts = Experts(
        config.integer("num_local_experts", maximum=MOST_EXPERTS),
        config.integer("num_experts_per_tok"),
        config.integer("intermediate_size"),
    )
    return mistral(config) | {"experts": experts, "moe_layers": True}


def qwen2_moe(config: Config) -> dict[str, Any]:
    """Qwen1.5-MoE and Qwen2-MoE: routed experts and one gated shared expert."""
    shared = config.integer("shared_expert_intermediate_size", minimum=0)
    return qwen2(config) | _qwen_experts(config, shared)


def qwen3_moe(config: Config) -> dict[str, Any]:
    """Qwen3-MoE, Qwen3-Coder and the text side of Qwen3-VL-MoE: routed experts only."""
    return qwen3(config) | _qwen_experts(config, 0)


def qwen3_next(config: Config) -> dict[str, Any]:
    """Qwen3-Next and Qwen3.5: gated delta-rule layers with a gated full-attention layer now and then, experts in every layer."""
    fields = qwen3(config) | _qwen_experts(config, config.integer("shared_expert_intermediate_size", default=0, minimum=0))
    # The published Qwen3-Next checkpoints carry one prediction layer that their configuration does not name.
    fields |= {"mtp_layers": 1}
    return fields | linear_attention_fields(config, fields["num_layers"])


def linear_attention_fields(config: Config, layers: int) -> dict[str, Any]:
    """The gated delta-rule mixer and the layers that have it, of Qwen3-Next and Qwen3.5."""
    interval = config.integer("full_attention_interval", default=4)
    listed = config.items("layer_types") or ["full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(layers)]
    types, assumed = for_each_layer(config, "layer_types", listed, layers)
    linear = LinearAttention(
        num_key_heads=config.integer("linear_num_key_heads"),
        num_value_heads=config.integer("linear_num_value_heads"),
        key_head_dim=config.integer("linear_key_head_dim"),
        value_head_dim=config.integer("linear_value_head_dim"),
        conv_kernel=config.integer("linear_conv_kernel_dim"),
    )
    return {
        "attention_output_gate": True,
        "linear_attention": linear,
        "linear_layers": tuple(t == "linear_attention" for t in types),
        "assumptions": assumed,
    }


def deepseek(config: Config) -> dict[str, Any]:
    """DeepSeek-V2, V3, R1, V3.2, Kimi-K2, GLM-5: latent attention, shared and routed experts after some dense layers, maybe an
    indexer, which GLM-5.2 has on some layers only (`indexer_types`)."""
    fields = rmsnorm_decoder(config)
    mla = LatentAttention(
        q_lora_rank=config.optional_integer("q_lora_rank"),
        kv_lora_rank=config.integer("kv_lora_rank"),
        qk_nope_head_dim=config.integer("qk_nope_head_dim"),
        qk_rope_head_dim=config.integer("qk_rope_head_dim"),
        v_head_dim=config.integer("v_head_dim"),
    )
    indexer, scoring = None, tuple(kind == "full" for kind in config.items("indexer_types"))
    if config.has("index_topk"):
        indexer = SparseIndexer(config.integer("index_n_heads"), config.integer("index_head_dim"), config.integer("index_topk"))
    fields |= {"mla": mla, "indexer": indexer, "indexer_layers": scoring if indexer else (), "head_dim": mla.qk_head_dim}
    if not config.has("n_routed_experts"):
        return fields
    width = config.integer("moe_intermediate_size")
    experts = Experts(
        num_experts=config.integer("n_routed_experts", maximum=MOST_EXPERTS),
        experts_per_token=config.integer("num_experts_per_tok"),
        intermediate_size=width,
        shared_intermediate_size=width * config.integer("n_shared_experts", default=0, minimum=0),
        router_bias=config.text("topk_method") == "noaux_tc",
    )
    dense, step = config.integer("first_k_dense_replace", default=0, minimum=0), config.integer("moe_layer_freq", default=1)
    moe = tuple(i >= dense and i % step == 0 for i in range(fields["num_layers"]))
    return fields | {"experts": experts, "moe_layers": moe}


def glm4_moe(config: Config) -> dict[str, Any]:
    """GLM-4.5 to 4.7 and the text side of GLM-4.5V, dots.llm1: grouped-query attention, experts as in DeepSeek-V3."""
    fields = rmsnorm_decoder(config)
    width, dense = config.integer("moe_intermediate_size"), config.integer("first_k_dense_replace", default=0, minimum=0)
    shared = width * config.integer("n_shared_experts", default=0, minimum=0)
    experts = Experts(
        config.integer("n_routed_experts", maximum=MOST_EXPERTS), config.integer("num_experts_per_tok"), width, shared, router_bias=True
    )
    moe = tuple(i >= dense for i in range(fields["num_layers"]))
    own = {"qkv_bias": config.flag("attention_bias"), "qk_norm": config.flag("use_qk_norm", config.text("model_type") == "dots1")}
    return fields | own | {"experts": experts, "moe_layers": moe}


def gpt_oss(config: Config) -> dict[str, Any]:
    """gpt-oss: alternating window and full attention with a sink a head; biases everywhere, also in router and experts."""
    fields = rmsnorm_decoder(config)
    window = config.integer("sliding_window")
    types = config.items("layer_types") or ["sliding_attention", "full_attention"] * -(-fields["num_layers"] // 2)
    experts = Experts(
        num_experts=config.integer("num_local_experts", maximum=MOST_EXPERTS),
        experts_per_token=config.integer("num_experts_per_tok", "experts_per_token"),
        intermediate_size=config.integer("intermediate_size"),
        router_bias=True,
        expert_bias=True,
    )
    windows = tuple(window if t == "sliding_attention" else 0 for t in types[: fields["num_layers"]])
    bias = config.flag("attention_bias", True)
    own = {"qkv_bias": bias, "output_bias": bias, "attention_sinks": True}
    return fields | own | {"layer_windows": windows, "experts": experts, "moe_layers": True}


def llama4(config: Config) -> dict[str, Any]:
    """Llama-4: three of four layers attend in chunks, every n-th layer has experts (one routed, one shared, of `intermediate_size`)."""
    fields = rmsnorm_decoder(config)
    layers = fields["num_layers"]
    no_rope_every = config.integer("no_rope_layer_interval", default=4)
    rope = config.items("no_rope_layers") or [int((i + 1) % no_rope_every != 0) for i in range(layers)]
    chunk = config.integer("attention_chunk_size", default=0, minimum=0)
    step = config.integer("interleave_moe_layer_step", default=1)
    width = config.integer("intermediate_size")
    experts = Experts(
        config.integer("num_local_experts", maximum=MOST_EXPERTS),
        config.integer("num_experts_per_tok"),
        width,
        shared_intermediate_size=width,
    )
    listed = config.items("moe_layers") or list(range(step - 1, layers, step))
    return fields | {
        "intermediate_size": config.integer("intermediate_size_mlp"),
        "layer_windows": tuple(chunk if uses_rope else 0 for uses_rope in rope),
        "window_kind": "chunked",
        "experts": experts,
        "moe_layers": tuple(i in listed for i in range(layers)),
    }


def minimax_m2(config: Config) -> dict[str, Any]:
    """MiniMax-M2: grouped-query attention with normalised queries and keys, experts of `intermediate_size` in every layer."""
    experts = Experts(
        num_experts=config.integer("num_local_experts", maximum=MOST_EXPERTS),
        experts_per_token=config.integer("num_experts_per_tok"),
        intermediate_size=config.integer("intermediate_size"),
        shared_intermediate_size=config.integer("shared_intermediate_size", default=0, minimum=0),
        router_bias=config.flag("use_routing_bias"),
    )
    return rmsnorm_decoder(config) | {"qk_norm": config.flag("use_qk_norm"), "experts": experts, "moe_layers": True}


def _qwen_experts(config: Config, shared: int) -> dict[str, Any]:
    layers = config.integer("num_hidden_layers")
    step, dense = config.integer("decoder_sparse_step", default=1), config.items("mlp_only_layers")
    routed = (
        config.integer("num_experts", maximum=MOST_EXPERTS),
        config.integer("num_experts_per_tok"),
        config.integer("moe_intermediate_size"),
    )
    moe = tuple(i not in dense and (i + 1) % step == 0 for i in range(layers))
    return {"experts": Experts(*routed, shared_intermediate_size=shared, shared_gate=shared > 0), "moe_layers": moe}
