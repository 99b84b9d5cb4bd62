"""Each request goes to the instance with the fewest requests that have not ended (ties: the first)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simserve.engine.instance import Instance


class LeastOutstanding:
    """Least outstanding requests."""

    def choose(self, instances: Sequence[Instance]) -> Instance:
        """The instance for the next request."""
        return min(instances, key=lambda instance: instance.outstanding)
