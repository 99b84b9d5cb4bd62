"""Readers of hybrids: attention on some layers, a recurrent mixer (gated delta rule or Mamba-2) on the others, or both side by side."""

from __future__ import annotations

from typing import Any

from simserve.errors import ModelError
from simserve.files.words import shown
from simserve.model.common_fields import common, rmsnorm_decoder
from simserve.model.config_file import Config
from simserve.model.dense_families import qwen3
from simserve.model.expert_families import MOST_EXPERTS, linear_attention_fields
from simserve.model.layer_patterns import for_each_layer
from simserve.model.parts import Experts, StateSpace

_STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_ATTENTION, _RECURRENT = ("attention", "full_attention", "*"), ("mamba", "mamba2", "linear_attention", "M")


def qwen3_5(config: Config) -> dict[str, Any]:
    """Qwen3.5 dense: gated delta-rule layers with a gated full-attention layer now and then, and a dense MLP in each."""
    fields = qwen3(config)
    return fields | linear_attention_fields(config, fields["num_layers"])


def granite_hybrid(config: Config) -> dict[str, Any]:
    """Granite 4.0: Mamba-2 layers with attention now and then; in each layer experts and a shared MLP, or the shared MLP alone."""
    fields = common(config)
    width, shared = config.integer("intermediate_size"), config.integer("shared_intermediate_size", default=1024, minimum=0)
    count = config.integer("num_local_experts", default=8, minimum=0, maximum=MOST_EXPERTS)
    types, assumed = for_each_layer(config, "layer_types", config.items("layer_types") or ["mamba"], fields["num_layers"])
    own: dict[str, Any] = {
        "intermediate_size": shared,
        "max_position_embeddings": config.integer("max_position_embeddings", default=2048),
        "tie_word_embeddings": config.flag("tie_word_embeddings", True),
        "rotary": config.text("position_embedding_type", "nope") == "rope",
        "qkv_bias": config.flag("attention_bias"),
        "output_bias": config.flag("attention_bias"),
        "assumptions": assumed,
    }
    if count:
        own |= {"experts": Experts(count, config.integer("num_experts_per_tok", default=2), width, shared), "moe_layers": True}
    return fields | own | _mixers(config, types) | {"linear_attention": _state_space(config, heads=128, state=256, groups=1)}


def bamba(config: Config) -> dict[str, Any]:
    """Bamba: Mamba-2 layers with attention on `attn_layer_indices`, a gated MLP in each."""
    fields = rmsnorm_decoder(config)
    attending = config.items("attn_layer_indices")
    types = tuple("attention" if i in attending else "mamba" for i in range(fields["num_layers"]))
    return fields | _mixers(config, types) | {"linear_attention": _state_space(config, heads=128, state=256, groups=1)}


def falcon_h1(config: Config) -> dict[str, Any]:
    """Falcon-H1 (arXiv 2507.22448 §2): attention and a Mamba-2 mixer side by side in every layer, then a gated MLP."""
    fields = rmsnorm_decoder(config)
    bias = config.flag("attention_bias")
    mixer = _state_space(config, heads=128, state=256, groups=1, width="mamba_d_ssm", gated_norm=config.flag("mamba_rms_norm"))
    own = {"qkv_bias": bias, "output_bias": bias, "mlp_bias": config.flag("mlp_bias")}
    return fields | own | {"linear_layers": True, "attending_layers": (True,) * fields["num_layers"], "linear_attention": mixer}


def nemotron_h(config: Config) -> dict[str, Any]:
    """Nemotron-H and Nemotron 3 (arXiv 2504.03624): each layer is one thing, a Mamba-2 mixer (M), attention (*), an MLP of two matrices
    (-) or experts of two matrices (E), in the order of `hybrid_override_pattern` or `layers_block_type`."""
    if config.has("moe_latent_size"):
        raise ModelError(f"{config.where}: experts in a latent space (moe_latent_size) are not supported")
    entries = config.items("layers_block_type") or list(config.text("hybrid_override_pattern"))
    if not entries:
        raise ModelError(f"{config.where}: key 'hybrid_override_pattern' is missing (also known as layers_block_type)")
    layers = config.integer("num_hidden_layers", default=len(entries), maximum=10_000)
    types, assumed = for_each_layer(config, "hybrid_override_pattern", entries, layers)
    known = (*_ATTENTION, *_RECURRENT, "mlp", "-", "moe", "E")
    for entry in types:
        if entry not in known:
            raise ModelError(f"{config.where}: hybrid_override_pattern holds {shown(entry)}, known are M, *, - and E")
    head_dim = config.integer("head_dim", "attention_head_dim", default=128)
    fields = common(Config(config.values | {"num_hidden_layers": layers, "head_dim": head_dim}, config.where))
    width = config.integer("intermediate_size", default=21_504)
    bias = config.flag("attention_bias")
    own: dict[str, Any] = {
        "intermediate_size": width,
        "layer_widths": tuple(width if entry in ("mlp", "-") else 0 for entry in types),
        "max_position_embeddings": config.integer("max_position_embeddings", default=4096),
        "tie_word_embeddings": config.flag("tie_word_embeddings"),
        "gated_mlp": False,
        "rotary": False,
        "qkv_bias": bias,
        "output_bias": bias,
        "mlp_bias": config.flag("mlp_bias"),
        "assumptions": assumed,
        "linear_layers": tuple(entry in _RECURRENT for entry in types),
        "attending_layers": tuple(entry in _ATTENTION for entry in types),
        "linear_attention": _state_space(config, heads=128, state=128, groups=8),
    }
    if any(entry in ("moe", "E") for entry in types):
        experts = Experts(
            num_experts=config.integer("n_routed_experts", "num_local_experts", default=8, maximum=MOST_EXPERTS),
            experts_per_token=config.integer("num_experts_per_tok", default=2),
            intermediate_size=config.integer("moe_intermediate_size", default=7688),
            shared_intermediate_size=config.integer("n_shared_experts", default=1, minimum=0)
            * config.integer("moe_shared_expert_intermediate_size", default=7688),
            router_bias=True,
            gated=False,
        )
        own |= {"experts": experts, "moe_layers": tuple(entry in ("moe", "E") for entry in types)}
    return fields | own


def _mixers(config: Config, types: tuple[Any, ...]) -> dict[str, Any]:
    for entry in types:
        if entry not in (*_ATTENTION, *_RECURRENT):
            raise ModelError(f"{config.where}: layer_types holds {shown(entry)}, known are mamba and attention")
    return {"linear_layers": tuple(entry in _RECURRENT for entry in types)}


def _state_space(config: Config, heads: int, state: int, groups: int, width: str = "", gated_norm: bool = True) -> StateSpace:
    """The Mamba-2 mixer; heads, state size and groups where the configuration leaves them out. Channels of a head `auto`: all channels
    (`width`, or the expansion times the hidden size) over the heads."""
    count = config.integer("mamba_n_heads", "mamba_num_heads", default=heads)
    channels = config.integer(width, default=0, minimum=0) if width else 0
    if not channels:
        channels = int(config.number("mamba_expand", "expand", default=2.0, most=1000.0) * config.integer("hidden_size"))
    stated = config.values.get("mamba_d_head", config.values.get("mamba_head_dim"))
    automatic = stated is None or stated == "auto"
    dtype = next((config.text(key) for key in ("mamba_ssm_cache_dtype", "mamba_ssm_dtype") if config.text(key)), "float32")
    return StateSpace(
        num_key_heads=config.integer("mamba_n_groups", "n_groups", default=groups),
        num_value_heads=count,
        key_head_dim=config.integer("mamba_d_state", "ssm_state_size", default=state),
        value_head_dim=max(1, channels // count) if automatic else config.integer("mamba_d_head", "mamba_head_dim"),
        conv_kernel=config.integer("mamba_d_conv", "conv_kernel", default=4),
        conv_bias=config.flag("mamba_conv_bias", config.flag("use_conv_bias", True)),
        projection_bias=config.flag("mamba_proj_bias"),
        gated_norm=gated_norm,
        state_dtype_bytes=_STATE_BYTES.get(dtype.removeprefix("torch."), 4),
    )
