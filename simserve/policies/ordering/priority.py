"""Higher `priority` first; among equals the earlier row. The lowest priority is preempted first (vLLM V1's priority scheduling)."""

from __future__ import annotations

from typing import Any

from simserve.contracts import Request

oracle = False
dynamic = False


def key(request: Request) -> Any:
    """Smallest first."""
    return -request.priority


def victim_key(request: Request) -> Any:
    """Largest is preempted first: the lowest priority, then the latest arrival."""
    return (-request.priority, request.row)
