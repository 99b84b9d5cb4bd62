"""The request with the most prompt tokens in the prefix cache first (SGLang's longest-prefix match, arXiv 2312.07104 section 3)."""

from __future__ import annotations

from typing import Any

from simserve.contracts import Request

oracle = False
dynamic = True


def key(request: Request) -> Any:
    """Smallest first; equals by row, that is first come, first served."""
    return -request.cached_estimate


def victim_key(request: Request) -> Any:
    """The most recently admitted is preempted first."""
    return request.admission
