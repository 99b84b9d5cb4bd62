"""Overheads by the names of what is learned: read, and replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from simserve.validation.machine import Overheads


def value(overheads: Overheads, name: str) -> float:
    """Seconds of an overhead: one of the request path, or one of the host."""
    owner: Any = overheads if hasattr(overheads, name) else overheads.host
    return float(getattr(owner, name) or 0.0)


def with_values(overheads: Overheads, values: Mapping[str, float]) -> Overheads:
    """The overheads with these seconds in place of their own."""
    own: dict[str, Any] = {name: float(seconds) for name, seconds in values.items() if hasattr(overheads, name)}
    host: dict[str, Any] = {name: float(seconds) for name, seconds in values.items() if name not in own}
    return replace(overheads, host=replace(overheads.host, **host), **own)


def rounded(values: Mapping[str, float], digits: int = 2) -> dict[str, float]:
    """So many significant digits: more than overheads are known to."""
    return {name: float(f"{seconds:.{digits - 1}e}") for name, seconds in values.items()}
