"""Cost models around cost models: what the innermost one can do besides, and a wrapped one with another inside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from simserve.contracts.cost import CostWrapper


def innermost(cost: Any, knows: str = "") -> Any:
    """The cost model that all wrappers are around: asked for what is no part of the contract (energy, spreads of its operators). With
    `knows`, the first of them whose class has a method of that name itself."""
    while isinstance(cost, CostWrapper) and not (knows and hasattr(type(cost), knows)):
        cost = cost.inner
    return cost


def rewrapped(cost: Any, change: Callable[[Any], Any], knows: str = "") -> Any:
    """The same wrappers around what `change` makes of the innermost cost model, or of the first that `knows`; see `innermost`."""
    if not isinstance(cost, CostWrapper) or (knows and hasattr(type(cost), knows)):
        return change(cost)
    twin = copy.copy(cost)
    twin.inner = rewrapped(cost.inner, change, knows)
    return twin
