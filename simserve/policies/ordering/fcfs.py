"""First come, first served: requests wait in order of arrival; preempted ones go back to the front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simserve.engine.request import LiveRequest

key = None
oracle = False
dynamic = False


def victim_key(request: LiveRequest) -> Any:
    """The most recently admitted is preempted first."""
    return request.admission
