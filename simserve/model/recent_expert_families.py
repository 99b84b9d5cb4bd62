"""Readers of mixture-of-experts families of 2024 to 2026."""

from __future__ import annotations

from typing import Any

from simserve.errors import ModelError
from simserve.files.words import shown
from simserve.model.common_fields import rmsnorm_decoder
from simserve.model.config_file import Config
from simserve.model.dense_families import llama
from simserve.model.expert_families import MOST_EXPERTS
from simserve.model.parts import Experts
from simserve.model.recent_families import ernie4_5, hunyuan_dense, olmo2


def ernie4_5_moe(config: Config) -> dict[str, Any]:
    """ERNIE 4.5 with experts from `moe_layer_start_index` to `moe_layer_end_index`, every `moe_layer_interval` layers."""
    fields = ernie4_5(config)
    layers, width = fields["num_layers"], config.integer("moe_intermediate_size")
    first, step = config.integer("moe_layer_start_index", default=1, minimum=0), config.integer("moe_layer_interval", default=1)
    last = config.integer("moe_layer_end_index", default=-1, minimum=-1)
    last = layers - 1 if last < 0 else last
    experts = Experts(
        num_experts=config.integer("moe_num_experts", maximum=MOST_EXPERTS),
        experts_per_token=config.integer("moe_k", "num_experts_per_tok"),
        intermediate_size=width,
        shared_intermediate_size=width * config.integer("moe_num_shared_experts", default=0, minimum=0),
        router_bias=config.flag("moe_use_aux_free", True),
    )
    return fields | {"experts": experts, "moe_layers": tuple(first <= i <= last and (i + 1) % step == 0 for i in range(layers))}


def hunyuan_moe(config: Config) -> dict[str, Any]:
    """Hunyuan-A13B: routed and shared experts in every layer but the first `moe_layer_num_skipped`."""
    if config.flag("use_cla"):
        raise ModelError(f"{config.where}: keys and values shared between layers (use_cla) are not supported")
    fields = hunyuan_dense(config)
    width = config.same_integer("moe_intermediate_size", "intermediate_size")
    skipped = config.integer("moe_layer_num_skipped", default=0, minimum=0)
    shared = config.same_integer("num_shared_expert", default=1, minimum=0) if config.flag("use_mixed_mlp_moe", True) else 0
    experts = Experts(
        config.same_integer("num_experts", maximum=MOST_EXPERTS),
        config.same_integer("moe_topk", "num_experts_per_tok"),
        width,
        width * shared,
    )
    return fields | {"experts": experts, "moe_layers": tuple(i >= skipped for i in range(fields["num_layers"]))}


def step3(config: Config) -> dict[str, Any]:
    """Step-3 (arXiv 2507.19427 §3): queries by way of a shared low-rank vector, one key/value head, experts on `moe_layers_enum`."""
    filled = Config(config.values | {"num_key_value_heads": 1}, config.where)
    limit = config.integer("max_position_embeddings", "max_position_embedding", "max_seq_len", default=65_536)
    fields = rmsnorm_decoder(Config(filled.values | {"max_position_embeddings": limit}, config.where))
    experts = Experts(
        num_experts=config.integer("moe_num_experts", maximum=MOST_EXPERTS),
        experts_per_token=config.integer("moe_top_k"),
        intermediate_size=config.integer("moe_intermediate_size"),
        shared_intermediate_size=config.integer("share_expert_dim", default=0, minimum=0),
    )
    listed = config.values.get("moe_layers_enum")
    if listed is None:
        listed = list(range(1, fields["num_layers"]))
    words = listed.split(",") if isinstance(listed, str) else listed
    if not isinstance(words, list) or not all(str(word).strip().isdigit() and len(str(word)) < 6 for word in words):
        raise ModelError(f"{config.where}: moe_layers_enum is {shown(listed)}, it must be numbers of layers with commas between")
    chosen = {int(word) for word in words}
    own = {"query_rank": config.integer("share_q_dim"), "experts": experts}
    return fields | own | {"moe_layers": tuple(i in chosen for i in range(fields["num_layers"]))}


def granite_moe(config: Config) -> dict[str, Any]:
    """Granite 3 with experts of `intermediate_size` in every layer, and a shared MLP where there is one."""
    shared = config.integer("shared_intermediate_size", default=0, minimum=0)
    counts = (config.integer("num_local_experts", maximum=MOST_EXPERTS), config.integer("num_experts_per_tok"))
    return llama(config) | {"experts": Experts(*counts, config.integer("intermediate_size"), shared), "moe_layers": True}


def olmoe(config: Config) -> dict[str, Any]:
    """OLMoE (arXiv 2409.02060): norms over all heads' queries and keys, experts of `intermediate_size` in every layer."""
    counts = (config.integer("num_experts", maximum=MOST_EXPERTS), config.integer("num_experts_per_tok"))
    return olmo2(config) | {"experts": Experts(*counts, config.integer("intermediate_size")), "moe_layers": True}


def bailing_moe(config: Config) -> dict[str, Any]:
    """Ling (1 and 2.0): routed and shared experts after some dense layers."""
    fields = rmsnorm_decoder(config)
    width, dense = config.integer("moe_intermediate_size"), config.integer("first_k_dense_replace", default=0, minimum=0)
    experts = Experts(
        num_experts=config.integer("num_experts", maximum=MOST_EXPERTS),
        experts_per_token=config.integer("num_experts_per_tok"),
        intermediate_size=width,
        shared_intermediate_size=width * config.integer("num_shared_experts", default=0, minimum=0),
        router_bias=config.flag("moe_router_enable_expert_bias"),
    )
    own = {"qkv_bias": config.flag("use_qkv_bias"), "output_bias": config.flag("use_bias"), "qk_norm": config.flag("use_qk_norm")}
    return fields | own | {"experts": experts, "moe_layers": tuple(i >= dense for i in range(fields["num_layers"]))}
