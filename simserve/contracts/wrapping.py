"""Cost models around cost models: what the innermost one can do besides, and a wrapped one with another inside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from simserve.contracts.cost import CostWrapper


def innermost(cost: Any) -> Any:
    """The cost model that all wrappers are around: asked for what is no part of the contract (energy, spreads of its operators)."""
    while isinstance(cost, CostWrapper):
        cost = cost.inner
    return cost


def rewrapped(cost: Any, change: Callable[[Any], Any]) -> Any:
    """The same wrappers around what `change` makes of the innermost cost model."""
    if not isinstance(cost, CostWrapper):
        return change(cost)
    twin = copy.copy(cost)
    twin.inner = rewrapped(cost.inner, change)
    return twin
