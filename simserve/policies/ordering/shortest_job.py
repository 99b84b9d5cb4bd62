"""The request with the fewest tokens (prompt and true output) first: an oracle, the bound for policies that predict output lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from simserve.engine.request import LiveRequest, OracleRequest

oracle = True
dynamic = False


def key(request: LiveRequest) -> Any:
    """Smallest first."""
    return request.prompt_tokens + cast("OracleRequest", request).output_tokens


def victim_key(request: LiveRequest) -> Any:
    """The most recently admitted is preempted first."""
    return request.admission
