"""Why a row is not simulated, in words that rows share."""

from __future__ import annotations

from simserve.validation import names

DISAGGREGATED = "disaggregated serving is not simulated yet"


def reason(engine_profile: str, engine: str, gpu: str, model_found: str, model: str) -> str:
    """Why something named cannot be simulated; '' when all three are known."""
    if not engine_profile:
        return f"no engine profile for {engine}"
    if not names.hardware_exists(gpu):
        return f"no hardware profile for {gpu}"
    if not model_found:
        return names.unknown_model(model) or f"unknown model {model}"
    return ""
