"""Higher `priority` first; among equals the earlier row. The lowest priority is preempted first (vLLM V1's priority scheduling)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simserve.engine.request import LiveRequest

oracle = False
dynamic = False


def key(request: LiveRequest) -> Any:
    """Smallest first."""
    return -request.priority


def victim_key(request: LiveRequest) -> Any:
    """Largest is preempted first: the lowest priority, then the latest arrival."""
    return (-request.priority, request.row)
