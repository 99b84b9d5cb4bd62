"""What the readers share: reasons, and values from cells that may be missing."""

from __future__ import annotations

import math
from typing import Any

from simserve.config.engine_profile import load_engine
from simserve.validation import names

DISAGGREGATED = "disaggregated serving is not simulated yet"
SPECULATIVE = "speculative decoding is not simulated yet"


def text(cell: Any) -> str:
    """A cell's text, '' when it is missing."""
    return "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else str(cell)


def number(cell: Any) -> float | None:
    """A cell's number; None when it is missing, -1 (the tables' mark for 'not stated') or not finite."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


def seconds(row: Any, **columns: str) -> dict[str, float]:
    """Metrics from milliseconds in columns of a row: metric -> column. Missing and zero values are left out."""
    found = {metric: number(row[column]) for metric, column in columns.items()}
    return {metric: value / 1000.0 for metric, value in found.items() if value}


def cache_settings(engine_profile: str, mode: str) -> dict[str, float]:
    """The KV cache's format where the weights' format decides it; nothing where the engine is not known."""
    bits = load_engine(engine_profile).kv_bits_by_weights.get(mode) if engine_profile else None
    return {} if bits is None else {"kv_bits": bits}


def reason(engine_profile: str, engine: str, gpu: str, model_found: str, model: str) -> str:
    """Why something named cannot be simulated; '' when all three are known."""
    if not engine_profile:
        return f"no engine profile for {engine}"
    if not names.hardware_exists(gpu):
        return f"no hardware profile for {gpu}"
    if not model_found:
        return f"unknown model {model}"
    return ""
