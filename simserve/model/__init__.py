"""Model architectures and how they are laid out over devices."""

from simserve.model.architecture import ModelArchitecture
from simserve.model.huggingface import from_config
from simserve.model.layout import (
    HeadOperators,
    Parallel,
    check,
    head_operators,
    layer_groups,
    layer_operators,
    rank_kv_bytes_per_token,
    rank_weight_bytes,
    stage_layers,
    stage_transfer_bytes_per_token,
    stage_weight_bytes,
)
from simserve.model.library import load_model, model_ids, model_names
from simserve.model.matrices import LayerKind
from simserve.model.quantisation import QUANT_METHODS, Quantisation

__all__ = [
    "QUANT_METHODS",
    "HeadOperators",
    "LayerKind",
    "ModelArchitecture",
    "Parallel",
    "Quantisation",
    "check",
    "from_config",
    "head_operators",
    "layer_groups",
    "layer_operators",
    "load_model",
    "model_ids",
    "model_names",
    "rank_kv_bytes_per_token",
    "rank_weight_bytes",
    "stage_layers",
    "stage_transfer_bytes_per_token",
    "stage_weight_bytes",
]
