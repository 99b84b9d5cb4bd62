"""Requests go to the instances in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simserve.engine.instance import Instance


class RoundRobin:
    """Instance 0, 1, 2, ... and again."""

    def __init__(self) -> None:
        self._next = 0

    def choose(self, instances: Sequence[Instance]) -> Instance:
        """The instance for the next request."""
        chosen = instances[self._next % len(instances)]
        self._next += 1
        return chosen
