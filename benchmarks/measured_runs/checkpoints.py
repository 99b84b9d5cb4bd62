"""Which checkpoint a row means: its weights' format, and the cache's format where an engine derives it from that."""

from __future__ import annotations

from simserve.config.engine_profile import load_engine
from simserve.model import load_model
from simserve.validation import devices, names

_MODES = {"fp8": "fp8", "fp8_block": "fp8_block128", "int8": "w8a8_int8", "w8a8": "w8a8_int8", "int4_wo": "w4a16_int4", "awq": "w4a16_int4"}


def that_fits(model: str, gpu: str, count: int) -> str:
    """The model, or its fp8 checkpoint where only that one's weights fit `count` devices (a page need not say which was served)."""
    fp8 = names.find_model(f"{model}-fp8") if model else ""
    if not fp8 or not names.hardware_exists(gpu):
        return model
    held = count * devices.device_profile(gpu).device.hbm_bytes
    return fp8 if load_model(model).weight_bytes() > held >= load_model(fp8).weight_bytes() else model


def quantisation_for(model: str, mode: str) -> str | None:
    """The override that makes `model` run as the file says. None when its own checkpoint is quantised or `mode` is 16-bit."""
    if load_model(model).quantisation.name != "none" or not mode:
        return None
    return _MODES.get(mode)


def is_sparse(model: str) -> bool:
    """Whether the model has routed experts."""
    return load_model(model).experts is not None


RANDOM_TOKENS = {"expert_popularity": 1.3}
"""What is stated of models with experts that were sent random tokens (docs/cost-models.md)."""


def over_random_tokens(model: str) -> dict[str, float]:
    """The settings of a run whose client sends random tokens."""
    return RANDOM_TOKENS if model and is_sparse(model) else {}


def cache_settings(engine_profile: str, mode: str) -> dict[str, float]:
    """The KV cache's format where the weights' format decides it; nothing where the engine is not known."""
    bits = load_engine(engine_profile).kv_bits_by_weights.get(mode) if engine_profile else None
    return {} if bits is None else {"kv_bits": bits}
