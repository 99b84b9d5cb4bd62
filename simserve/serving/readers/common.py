"""What the readers share: reasons, and values from cells that may be missing."""

from __future__ import annotations

import math
from typing import Any

from simserve.serving import names

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
    """The KV cache's format where the weights' format decides it: NVIDIA's per-tensor fp8 checkpoints state an fp8 cache too, and
    TensorRT-LLM follows the checkpoint (`kv_cache_quant_algo` in its hf_quant_config.json)."""
    return {"kv_bits": 8.0} if engine_profile.startswith("tensorrt-llm") and mode == "fp8" else {}


def reason(engine_profile: str, engine: str, gpu: str, model_found: str, model: str) -> str:
    """Why something named cannot be simulated; '' when all three are known."""
    if not engine_profile:
        return f"no engine profile for {engine}"
    if not names.hardware_exists(gpu):
        return f"no hardware profile for {gpu}"
    if not model_found:
        return f"unknown model {model}"
    return ""
