"""Speculative decoding: how many tokens a step drafts, and how many of them the model accepts.

Names load on first use: every run draws from `simserve.speculation.draws`, and few speculate.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simserve.speculation.acceptance import ByNumber, ByRow, Same, expected_tokens
    from simserve.speculation.schedule import Schedule
    from simserve.speculation.speculated import Speculated

_HOMES = {"Schedule": "schedule", "Speculated": "speculated"}  # the others are in `acceptance`

__all__ = ["ByNumber", "ByRow", "Same", "Schedule", "Speculated", "expected_tokens"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"simserve.speculation.{_HOMES.get(name, 'acceptance')}"), name)
