"""A plan as the files see it that hold a part of its actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Protocol

from simserve.contracts import Slice
from simserve.engine.request import LiveRequest


class Planned(Protocol):
    """What they read and write of a StepPlan; the names are its own."""

    slices: Sequence[Slice]
    _made: list[Slice]
    sliced: list[LiveRequest]
    layers: tuple[int, int] | None
    budget_left: int | None
    decodes: int
    context_tokens: int
    start_s: float
    waiting: int

    def refuse(self, what: str) -> NoReturn:
        """Raises the PolicyError of an action that breaks a rule."""
        ...
