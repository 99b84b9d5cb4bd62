"""A reader for decoders without a reader of their own: plain stacks whose keys say all that matters, and a refusal of everything else."""

from __future__ import annotations

import re
from typing import Any

from simserve.errors import ModelError
from simserve.files.words import clipped, shown
from simserve.model.common_fields import rmsnorm_decoder
from simserve.model.config_file import Config
from simserve.model.layer_patterns import windows

NO_READER = "no reader for model_type"
"""How the assumption begins that is listed with results of a model of an unknown architecture."""

_OTHER_ARITHMETIC = (
    (r"expert|moe|router|mixture", "experts"),
    (r"mamba|ssm|d_state|d_conv|d_inner|dt_rank|time_step|state_size|conv_kernel|conv_l_cache|conv_dim", "a state space or convolution"),
    (r"linear_(attn|attention|num|key|value|conv)|delta|kda|lightning|retention|rwkv|wkv|gated_linear|recurrent", "linear attention"),
    (r"lora_rank|_rank$|latent|nope_head_dim|rope_head_dim|v_head_dim|share_q_dim|compress", "low-rank projections"),
    (r"^index_|indexer|sparse|num_selected|topk|top_k_blocks|block_types|hybrid|window_pattern$", "other attention on some layers"),
    (
        r"altup|laurel|per_layer_input|kv_shared|cla_share|use_cla|cross_attention|cross_layer|yoco|share_layers",
        "layers that share or add inputs",
    ),
    (r"parallel_(attn|attention|residual|block)|new_decoder_architecture|alibi|do_layer_norm_before", "another order of attention and MLP"),
    (r"loop|ponder|early_exit|depth_recur|encoder|decoder_layers|codebook", "another stack"),
)
"""Keys, in lower case, whose presence means that the arithmetic is not that of a plain decoder."""

_HARMLESS = re.compile(
    r"(^|_)(eps|epsilon|token_ids?|dropout|pdrop|init|std|initializer_range|aux_loss|loss|coef|jitter|temperature|dtype)($|_)"
)
_EMBEDDING = re.compile(r"embed_proj_dim$|^embedding_(size|dim)$")
_GATED = ("", "silu", "swish", "swiglu")
_PLAIN_LISTS = (
    "architectures",
    "layer_types",
    "no_rope_layers",
    "eos_token_id",
    "bos_token_id",
    "pad_token_id",
    "keys_to_ignore_at_inference",
)
_PLAIN_OBJECTS = (
    "quantization_config",
    "compression_config",
    "rope_scaling",
    "rope_parameters",
    "vision_config",
    "audio_config",
    "auto_map",
    "id2label",
    "label2id",
    "generation_config",
    "task_specific_params",
)
_NAMES_OF_TASKS = ("CausalLM", "LMHeadModel", "ConditionalGeneration", "LMHead")


def generic(config: Config, family: str) -> dict[str, Any]:
    """A plain decoder: RMSNorm before attention and MLP, rotary positions, grouped-query attention, a gated MLP.

    Raises ModelError when a key suggests other arithmetic, or a dimension is missing, with all reasons.
    """
    reasons = _reasons(config)
    if reasons:
        raise ModelError(f"it is no plain decoder as far as its keys tell: {'; '.join(reasons[:6])}")
    reach = config.integer("max_position_embeddings", "max_sequence_length", "max_seq_len", "seq_length", "n_positions")
    fields = rmsnorm_decoder(Config(config.values | {"max_position_embeddings": reach}, config.where))
    bias = config.flag("attention_bias") or config.flag("bias") or config.flag("use_bias")
    window = config.integer("sliding_window", default=0, minimum=0) if config.flag("use_sliding_window", True) else 0
    assumed = (
        f"{NO_READER} '{clipped(family)}': taken for a plain decoder (RMSNorm before attention and MLP, rotary positions,"
        " grouped-query attention, gated MLP, no biases but those that its keys name)"
    )
    own = windows(config, fields["num_layers"], window)
    return (
        fields
        | own
        | {
            "qkv_bias": bias or config.flag("qkv_bias"),
            "output_bias": bias or config.flag("attention_out_bias"),
            "mlp_bias": config.flag("mlp_bias") or config.flag("use_bias"),
            "qk_norm": any(config.flag(key) for key in ("use_qk_norm", "qk_norm", "qk_layernorm")),
            "assumptions": (assumed, *own.get("assumptions", ())),
        }
    )


def _reasons(config: Config) -> list[str]:
    found = []
    for key, value in config.values.items():
        word = str(key).lower()
        if key in _PLAIN_OBJECTS or value in (None, False, 0, "", [], {}) or _HARMLESS.search(word):
            continue
        named = next((what for pattern, what in _OTHER_ARITHMETIC if re.search(pattern, word)), None)
        if named is not None:
            found.append(f"'{clipped(str(key))}' ({named})")
        elif isinstance(value, list) and key not in _PLAIN_LISTS:
            found.append(f"'{clipped(str(key))}' is a list, perhaps a value for each layer")
        elif isinstance(value, dict):
            found.append(f"'{clipped(str(key))}' is an object")
        elif _EMBEDDING.search(word) and value != config.values.get("hidden_size"):
            found.append(f"'{clipped(str(key))}' ({shown(value)}: an embedding of another width)")
    activation = next((config.text(key) for key in ("hidden_act", "hidden_activation", "activation_function") if config.text(key)), "")
    if activation.lower() not in _GATED:
        found.append(f"hidden_act '{clipped(activation)}' (its MLP may have no gate)")
    norms = {str(key).lower() for key in config.values}
    if norms & {"layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "norm_type"} and not norms & {"rms_norm_eps", "rmsnorm_eps"}:
        found.append("LayerNorm (its MLP may have no gate)")
    tasks = [name for name in config.items("architectures") if isinstance(name, str)]
    if tasks and not any(name.endswith(_NAMES_OF_TASKS) for name in tasks):
        found.append(f"architecture '{clipped(tasks[0])}' generates no text")
    return found
